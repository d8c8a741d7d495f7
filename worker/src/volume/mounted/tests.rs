use std::fs;

use coracle_daemon::SystemClock;
use coracle_model::digest::Digest;
use coracle_model::mount::Mount;
use coracle_model::service::{ContainerSpec, PinnedImage, TaskSpec};
use coracle_model::template::NodeFacts;

use super::*;
use crate::adapters::fake::FakeContainers;
use crate::assignments::Assignment;

struct Rig {
    folder: tempfile::TempDir,
    fake: Arc<FakeContainers>,
}

impl Rig {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), fake: FakeContainers::new() }
    }

    /// As a daemon that begins.
    fn begin(&self) -> WithVolumes {
        let clock = Arc::new(SystemClock::new());
        let volumes = VolumeStore::open(self.folder.path().join("volumes"), clock).unwrap();
        let containers =
            WithVolumes::new(Arc::clone(&self.fake) as _, volumes, self.folder.path().join("views"));
        containers.recover().unwrap();
        containers
    }

    fn layer(&self, path: &str, content: &str) -> PathBuf {
        let layer = self.folder.path().join("layer");
        let file = layer.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
        layer
    }
}

fn id(bits: u128) -> TaskId {
    TaskId::from_bits(bits)
}

fn volume(name: &str, target: &str) -> Mount {
    let kind = MountKind::Volume {
        name: name.into(),
        labels: BTreeMap::from([("of".to_owned(), "mount".to_owned())]),
        // Filling needs root.
        no_copy: true,
        subpath: String::new(),
    };
    Mount { target: target.into(), read_only: false, kind }
}

fn launch(task: TaskId, mounts: Vec<Mount>, of_image: &[&str], program: &str) -> Launch {
    let image = PinnedImage { reference: "web:1".into(), digest: Digest::from_bytes([1; 32]) };
    let mut spec = TaskSpec::of(ContainerSpec::of(image));
    spec.container.mounts = mounts;
    let assignment = Assignment { spec: Ok(Arc::new(spec.clone())), ..Assignment::unknown(task) };
    let image = coracle_image::ImageConfig {
        command: vec![program.into()],
        volumes: of_image.iter().map(|&path| path.to_owned()).collect(),
        ..Default::default()
    };
    launched(&assignment, &spec, &image)
}

fn launched(assignment: &Assignment, spec: &TaskSpec, image: &coracle_image::ImageConfig) -> Launch {
    let values = crate::launch::values(assignment, &NodeFacts::default());
    crate::launch::launch(assignment, spec, &values, image, vec![], "/logs".into()).unwrap()
}

fn names(containers: &WithVolumes) -> Vec<String> {
    containers.volumes.list().into_iter().map(|volume| volume.name).collect()
}

#[test]
fn named_ones_stay_and_own_ones_go_with_the_container() {
    let rig = Rig::new();
    let containers = rig.begin();
    let own = format!("{}-1", id(1));
    containers.create(&launch(id(1), vec![volume("data", "/data"), volume("", "/own")], &[], "run")).unwrap();
    assert_eq!(names(&containers), [own.clone(), "data".to_owned()]);
    let made = containers.volumes.get("data").unwrap();
    assert_eq!((made.labels.len(), made.anonymous, made.users[0].task), (1, false, id(1)));
    let mine = containers.volumes.get(&own).unwrap();
    assert_eq!((mine.anonymous, mine.owner), (true, Some(id(1))));

    // The next daemon, which has no journal, knows who uses what.
    let containers = rig.begin();
    assert_eq!(names(&containers), [own, "data".to_owned()]);
    assert!(containers.volumes.remove("data").is_err());
    containers.delete(id(1)).unwrap();
    assert_eq!(names(&containers), ["data"]);
    containers.volumes.remove("data").unwrap();
}

#[test]
fn a_container_that_could_not_be_made_uses_nothing() {
    let rig = Rig::new();
    let containers = rig.begin();
    containers
        .create(&launch(id(1), vec![volume("data", "/data"), volume("", "/own")], &[], "refuse"))
        .unwrap_err();
    assert_eq!(names(&containers), ["data"]);
    containers.volumes.remove("data").unwrap();
    let error = containers.create(&launch(id(1), vec![volume("a b", "/data")], &[], "run")).unwrap_err();
    assert!(error.to_string().starts_with("mount /data: volume name: invalid value"), "{error}");
}

#[test]
fn folders_that_the_image_wants_kept_apart_are_volumes_of_the_task() {
    let launch = launch(id(1), vec![volume("data", "/data/")], &["/data", "/cache"], "run");
    let targets: Vec<&str> = launch.mounts.iter().map(|mount| mount.target.as_str()).collect();
    assert_eq!(targets, ["/data/", "/cache"], "what the service mounts there comes first");
    assert!(
        matches!(&launch.mounts[1].kind, MountKind::Volume { name, no_copy: false, .. } if name.is_empty())
    );
}

#[test]
fn a_label_of_the_service_s_own_keeps_no_volume() {
    let rig = Rig::new();
    let containers = rig.begin();
    containers.volumes.create("data", &BTreeMap::new()).unwrap();
    let mut forged = launch(id(1), vec![], &[], "run");
    let image = PinnedImage { reference: "web:1".into(), digest: Digest::from_bytes([1; 32]) };
    let mut spec = TaskSpec::of(ContainerSpec::of(image));
    spec.container.labels.insert(LABEL_VOLUMES.into(), "data".into());
    let assignment = Assignment { spec: Ok(Arc::new(spec.clone())), ..Assignment::unknown(id(1)) };
    let config = coracle_image::ImageConfig { command: vec!["run".into()], ..Default::default() };
    forged.labels = launched(&assignment, &spec, &config).labels;
    containers.create(&forged).unwrap();
    rig.begin().volumes.remove("data").unwrap();
}

#[test]
#[expect(clippy::print_stderr, reason = "a test that cannot run says so")]
fn a_new_volume_begins_with_what_the_image_has() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: needs root to mount");
        return;
    }
    let rig = Rig::new();
    let containers = rig.begin();
    let with = |task, name: &str, no_copy| {
        let mut mount = volume(name, "/srv/data");
        if let MountKind::Volume { no_copy: wanted, .. } = &mut mount.kind {
            *wanted = no_copy;
        }
        let mut launch = launch(task, vec![mount], &[], "run");
        launch.layers = vec![rig.layer("srv/data/file", "of the image")];
        launch
    };
    let read =
        |name: &str| fs::read_to_string(rig.folder.path().join("volumes").join(name).join("_data/file"));
    containers.create(&with(id(1), "filled", false)).unwrap();
    assert_eq!(read("filled").unwrap(), "of the image");
    containers.create(&with(id(2), "empty", true)).unwrap();
    assert!(read("empty").is_err());
    fs::write(rig.folder.path().join("volumes/filled/_data/file"), "changed").unwrap();
    containers.create(&with(id(3), "filled", false)).unwrap();
    assert_eq!(read("filled").unwrap(), "changed", "only a new one is filled");
}
