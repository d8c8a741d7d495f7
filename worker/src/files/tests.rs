use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;

use coracle_model::secret::{FILE_MODE, FileKind};
use futures::FutureExt as _;

use super::*;

fn sent(id: u128, content: u64, data: &'static str) -> v1::AssignedFile {
    v1::AssignedFile {
        file: FileId::from_bits(id).to_string(),
        content,
        data: bytes::Bytes::from_static(data.as_bytes()),
        template: false,
    }
}

fn reference(id: u128, content: u64) -> FileReference {
    FileReference {
        kind: FileKind::Secret,
        name: "key".parse().unwrap(),
        file: FileId::from_bits(id),
        content,
        pinned: false,
        target: FileTarget::File { path: "key".to_owned(), uid: 5, gid: 6, mode: FILE_MODE },
    }
}

#[test]
fn what_is_not_needed_any_more_is_forgotten() {
    let shelf = Shelf::default();
    shelf.put(sent(1, 1, "one")).unwrap();
    shelf.put(sent(1, 2, "two")).unwrap();
    let needed = BTreeSet::from([(FileId::from_bits(1), 2)]);
    assert_eq!(shelf.missing(&needed), None);
    shelf.keep_only(&needed);
    assert_eq!(shelf.held(), needed);
    let error = shelf.files(&[reference(1, 1)]).unwrap_err();
    assert_eq!(error, "secret \"key\" is not on this node: no manager has sent it");
    let files = shelf.files(&[reference(1, 2)]).unwrap();
    assert_eq!((files[0].target.as_str(), files[0].reveal()), ("/run/secrets/key", &b"two"[..]));
}

#[test]
fn a_task_waits_for_what_is_not_here() {
    let shelf = Shelf::default();
    let mut arrived = Box::pin(shelf.arrived(&[reference(1, 1), reference(2, 1)]));
    shelf.put(sent(1, 1, "one")).unwrap();
    assert!(arrived.as_mut().now_or_never().is_none());
    shelf.put(sent(2, 1, "two")).unwrap();
    assert!(arrived.now_or_never().is_some());
    assert!(shelf.arrived(&[]).now_or_never().is_some());
}

#[test]
fn what_is_secret_is_not_printed() {
    let shelf = Shelf::default();
    shelf.put(sent(1, 1, "canary")).unwrap();
    let files = shelf.files(&[reference(1, 1)]).unwrap();
    let printed = format!("{shelf:?} {files:?}");
    // As text and as a list of bytes.
    assert!(!printed.contains("canary") && !printed.contains("99, 97, 110"), "{printed}");
    assert!(printed.contains("/run/secrets/key"), "{printed}");
}

fn any(task: coracle_model::id::TaskId) -> crate::launch::Launch {
    use coracle_model::service::{ContainerSpec, PinnedImage, TaskSpec};
    let digest = coracle_model::digest::Digest::from_bytes([1; 32]);
    let spec = TaskSpec::of(ContainerSpec::of(PinnedImage { reference: "web:1".into(), digest }));
    let assignment = crate::assignments::Assignment {
        spec: Ok(Arc::new(spec.clone())),
        ..crate::assignments::Assignment::unknown(task)
    };
    let image = coracle_image::ImageConfig { command: vec!["run".into()], ..Default::default() };
    let values = crate::launch::values(&assignment, &Default::default());
    crate::launch::launch(&assignment, &spec, &values, &image, vec![], "/logs".into()).unwrap()
}

#[test]
#[expect(clippy::print_stderr, reason = "a test that cannot run says so")]
fn containers_see_files_in_memory_as_long_as_they_exist() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: needs root to mount");
        return;
    }
    use super::mounted::WithFiles;
    use crate::adapters::containers::Containers as _;
    let folder = tempfile::tempdir().unwrap();
    let shelf = Shelf::default();
    shelf.put(sent(1, 1, "canary")).unwrap();
    let fake = crate::adapters::fake::FakeContainers::new();
    let containers = WithFiles::new(Arc::clone(&fake) as _, folder.path().join("files"));
    let task = coracle_model::id::TaskId::from_bits(7);
    let mut launch = any(task);
    launch.files = shelf.files(&[reference(1, 1)]).unwrap();
    containers.create(&launch).unwrap();
    let place = folder.path().join("files").join(task.to_string()).join("0");
    let found = std::fs::metadata(&place).unwrap();
    assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (5, 6, FILE_MODE));
    assert_eq!(std::fs::read_to_string(&place).unwrap(), "canary");
    // statfs(2), TMPFS_MAGIC.
    assert_eq!(rustix::fs::statfs(&place).unwrap().f_type, 0x0102_1994);
    // Another daemon finds the container, and leaves its files alone.
    let again = WithFiles::new(Arc::clone(&fake) as _, folder.path().join("files"));
    assert_eq!(again.recover().unwrap().len(), 1);
    assert!(place.exists());
    again.delete(task).unwrap();
    assert!(!place.parent().unwrap().exists());
    // Of a container that was never made, nothing is left; nor of one that vanished.
    launch.arguments = vec!["refuse".to_owned()];
    containers.create(&launch).unwrap_err();
    assert!(!place.parent().unwrap().exists());
    launch.arguments = vec!["run".to_owned()];
    containers.create(&launch).unwrap();
    fake.delete(task).unwrap();
    assert!(place.exists());
    containers.recover().unwrap();
    assert!(!place.parent().unwrap().exists());
}
