use coracle_image::builder::{ImageBuilder, LayerBuilder};

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

struct Node {
    _folder: tempfile::TempDir,
    store: Arc<ImageStore>,
    uses: ImageUses,
}

impl Node {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(ImageStore::open(folder.path().join("images")).unwrap());
        Self { _folder: folder, store, uses: ImageUses::default() }
    }

    /// An image with a layer that all have and one of its own.
    fn load(&self, content: u8) -> Digest {
        let shared = LayerBuilder::new().file("shared", 0o644, vec![1; 10_000]);
        let own = LayerBuilder::new().file("own", 0o644, vec![content; 10_000]);
        let mut archive = Vec::new();
        ImageBuilder::new().layer(shared).layer(own).build().unwrap().write_archive(&mut archive).unwrap();
        self.store.load_archive(&archive[..]).unwrap()[0].manifest
    }

    fn remove(&self, unwanted: &[Digest], grace: Duration) -> Option<u64> {
        let unwanted = unwanted.iter().copied().collect();
        remove(&self.store, &self.uses, &unwanted, grace).unwrap().map(|removed| removed.images)
    }
}

#[test]
fn what_is_removed_frees_its_own_layers_and_no_others() {
    let node = Node::new();
    let (one, other) = (node.load(2), node.load(3));
    let before = node.store.disk_usage().unwrap();
    assert_eq!(node.remove(&[one], Duration::ZERO), Some(1));
    assert!(!node.store.has(one) && node.store.has(other));
    let after = node.store.disk_usage().unwrap();
    assert!(after.layer_bytes < before.layer_bytes && after.reclaimable_bytes == 0, "{after:?}");
    assert_eq!(node.store.prepare(other).unwrap().lower_dirs.iter().filter(|path| path.is_dir()).count(), 2);
    assert_eq!(node.remove(&[other], Duration::ZERO), Some(1));
    let empty = node.store.disk_usage().unwrap();
    assert_eq!((empty.blob_bytes, empty.layer_bytes), (0, 0));
}

#[test]
fn an_image_in_use_stays_and_so_does_everything_while_containers_are_unknown() {
    let node = Node::new();
    let image = node.load(2);
    let task = node.uses.hold(Some(image));
    assert_eq!(node.remove(&[image], Duration::ZERO), Some(0));
    drop(task);
    let stray = node.uses.hold(None);
    assert_eq!(node.remove(&[image], Duration::ZERO), None);
    drop(stray);
    node.uses.asked(image);
    assert_eq!(node.remove(&[image], Duration::ZERO), Some(0), "a node fetches it");
    assert!(node.store.has(image));
}

#[test]
fn an_image_that_was_just_loaded_again_stays() {
    let node = Node::new();
    let image = node.load(2);
    assert_eq!(node.remove(&[image], HOUR), Some(0));
    node.load(2);
    assert_eq!(node.remove(&[image], HOUR), Some(0));
    assert!(node.store.has(image));
}

#[test]
fn what_a_fetch_left_goes_unless_a_task_waits_for_it() {
    let node = Node::new();
    let image = node.load(2);
    // Its content is here, and no record says that it is complete.
    node.store.remove(image).unwrap();
    let waiting = node.uses.hold(Some(image));
    assert_eq!(node.remove(&[], Duration::ZERO), Some(0));
    assert!(node.store.finish_fetch(image, &[]).is_ok(), "nothing is missing");
    node.store.remove(image).unwrap();
    drop(waiting);
    assert_eq!(node.remove(&[], Duration::ZERO), Some(0));
    assert_eq!(node.store.disk_usage().unwrap().blob_bytes, 0);
}
