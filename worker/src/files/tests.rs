use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;

use coracle_model::secret::{FILE_MODE, FileKind, FileTarget};
use coracle_model::service::{ContainerSpec, PinnedImage};
use coracle_model::template::{NodeFacts, Values};
use futures::FutureExt as _;

use super::content::Given;

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

fn container(files: Vec<FileReference>) -> ContainerSpec {
    let digest = coracle_model::digest::Digest::from_bytes([1; 32]);
    let mut container = ContainerSpec::of(PinnedImage { reference: "web:1".into(), digest });
    (container.files, container.env) = (files, vec!["COLOUR=green".to_owned()]);
    container
}

fn given(shelf: &Shelf, files: Vec<FileReference>) -> Result<Given, String> {
    let (service, task) =
        (coracle_model::id::ServiceId::from_bits(1), coracle_model::id::TaskId::from_bits(2));
    let node = NodeFacts { hostname: "host".to_owned(), ..NodeFacts::default() };
    let labels = BTreeMap::new();
    let values = Values::of((service, "web", &labels), &node, task, coracle_model::task::Slot::Number(3));
    shelf.given(&container(files), &values)
}

/// A config with placeholders, and what a task is given of it beside a secret.
fn of_template(text: &'static str) -> Result<String, String> {
    let shelf = Shelf::default();
    shelf.put(sent(1, 1, "canary {{.Task.Slot}}")).unwrap();
    shelf.put(v1::AssignedFile { template: true, ..sent(2, 1, text) }).unwrap();
    let mut config = reference(2, 1);
    (config.kind, config.name) = (FileKind::Config, "site.conf".parse().unwrap());
    config.target = FileTarget::File { path: "/site".to_owned(), uid: 0, gid: 0, mode: FILE_MODE };
    let given = given(&shelf, vec![reference(1, 1), config])?;
    Ok(String::from_utf8(given.files[1].reveal().to_vec()).unwrap())
}

#[test]
fn placeholders_are_filled_in_from_what_the_service_is_given() {
    let text =
        "{{.Service.Name}}.{{.Task.Slot}} on {{.Node.Hostname}}: {{env \"COLOUR\"}} {{secret \"key\"}}";
    assert_eq!(of_template(text).unwrap(), "web.3 on host: green canary {{.Task.Slot}}");
    for (text, why) in [
        ("{{secret \"other\"}}", "{{secret \"other\"}}: the service is not given it; add --secret other"),
        ("{{env \"NOPE\"}}", "{{env \"NOPE\"}}: the service has no such variable; add --env NOPE=VALUE"),
    ] {
        assert_eq!(of_template(text).unwrap_err(), format!("config \"site.conf\": {why}"));
    }
    assert!(
        of_template("{{oops}}")
            .unwrap_err()
            .starts_with("config \"site.conf\": at character 1: {{oops}} is not")
    );
    let shelf = Shelf::default();
    let big: &'static str = "x".repeat(300 * 1024).leak();
    shelf.put(sent(1, 1, big)).unwrap();
    let twice = "{{secret \"key\"}}{{secret \"key\"}}";
    shelf.put(v1::AssignedFile { template: true, ..sent(2, 1, twice) }).unwrap();
    let mut double = reference(2, 1);
    double.target = FileTarget::File { path: "double".to_owned(), uid: 0, gid: 0, mode: FILE_MODE };
    let error = given(&shelf, vec![reference(1, 1), double]).unwrap_err();
    assert!(error.contains("614400 bytes are too many when its placeholders are filled in"), "{error}");
}

#[test]
fn what_cannot_be_a_variable_is_refused_without_being_told() {
    let shelf = Shelf::default();
    shelf.put(sent(1, 1, "canary\0")).unwrap();
    let mut variable = reference(1, 1);
    variable.target = FileTarget::Environment { variable: "TOKEN".to_owned() };
    assert_eq!(
        given(&shelf, vec![variable]).unwrap_err(),
        "secret \"key\": it cannot be the variable TOKEN: it has a zero byte; give it as a file"
    );
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
    let error = given(&shelf, vec![reference(1, 1)]).unwrap_err();
    assert_eq!(error, "secret \"key\" is not on this node: no manager has sent it");
    let files = given(&shelf, vec![reference(1, 2)]).unwrap().files;
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
    let mut variable = reference(1, 1);
    variable.target = FileTarget::Environment { variable: "TOKEN".to_owned() };
    let given = given(&shelf, vec![reference(1, 1), variable]).unwrap();
    assert_eq!(given.variables[0].reveal(), "TOKEN=canary");
    let printed = format!("{shelf:?} {given:?}");
    // As text and as a list of bytes.
    assert!(!printed.contains("canary") && !printed.contains("99, 97, 110"), "{printed}");
    assert!(printed.contains("/run/secrets/key") && printed.contains("TOKEN"), "{printed}");
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
    launch.files = given(&shelf, vec![reference(1, 1)]).unwrap().files;
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
