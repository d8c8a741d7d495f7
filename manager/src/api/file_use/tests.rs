use std::collections::BTreeMap;

use coracle_manager_core::change::Proposal;
use coracle_manager_core::{Change, apply};
use coracle_model::cluster::Secret;
use coracle_model::digest::Digest;
use coracle_model::id::FileId;
use coracle_model::secret::{Content, FILE_MODE, File, FileKind};
use coracle_model::service::{PinnedImage, ServiceMode, TaskSpec};
use coracle_model::time::Timestamp;
use coracle_model::version::Version;

use super::*;

fn file(id: u128, kind: FileKind, name: &str, template: bool, data: &[u8]) -> File {
    let content = Content { created_at: Timestamp::EPOCH, data: Secret::new(data.to_vec()) };
    File {
        id: FileId::from_bits(id),
        kind,
        version: Version::default(),
        created_at: Timestamp::EPOCH,
        updated_at: Timestamp::EPOCH,
        name: name.parse().unwrap(),
        labels: BTreeMap::new(),
        template,
        contents: BTreeMap::from([(1, content)]),
    }
}

fn state() -> State {
    let files = [
        file(1, FileKind::Secret, "key", false, b"canary"),
        file(2, FileKind::Secret, "bytes", false, b"canary\0"),
        file(3, FileKind::Secret, "long", false, &vec![b'c'; 131_072]),
        file(4, FileKind::Config, "conf", true, b"{{secret `key`}} {{env `COLOUR`}}"),
        // As only an older version could have made it.
        file(5, FileKind::Config, "wrong", true, b"{{.Task.Nope}}"),
    ];
    let mut state = State::default();
    let proposal = Proposal {
        changes: files.into_iter().map(Change::CreateFile).collect(),
        actor: "test".to_owned(),
        reason: "test".to_owned(),
        time: Timestamp::EPOCH,
        idempotency: None,
        term: 0,
    };
    apply(&mut state, 1, 1, &proposal);
    state
}

fn reference(kind: FileKind, name: &str, variable: Option<&str>) -> FileReference {
    let target = match variable {
        Some(variable) => FileTarget::Environment { variable: variable.to_owned() },
        None => FileTarget::File { path: name.to_owned(), uid: 0, gid: 0, mode: FILE_MODE },
    };
    let name = name.parse().unwrap();
    FileReference { kind, name, file: FileId::from_bits(0), content: 0, pinned: false, target }
}

fn resolved(files: Vec<FileReference>, env: &[&str]) -> Result<ServiceSpec, String> {
    let image = PinnedImage { reference: "web:1".to_owned(), digest: Digest::from_bytes([1; 32]) };
    let mut container = ContainerSpec::of(image);
    container.files = files;
    container.env = env.iter().map(|&entry| entry.to_owned()).collect();
    let mode = ServiceMode::Replicated { replicas: 1 };
    let mut spec = ServiceSpec::of("web".parse().unwrap(), mode, TaskSpec::of(container));
    resolve(&state(), &mut spec).map_err(|error| match error.hint {
        Some(hint) => format!("{}\nhint: {hint}", error.message),
        None => error.message,
    })?;
    Ok(spec)
}

#[test]
fn names_become_objects_and_their_latest_versions() {
    let key = reference(FileKind::Secret, "key", Some("TOKEN"));
    let files =
        vec![key, reference(FileKind::Config, "conf", None), reference(FileKind::Secret, "key", None)];
    let spec = resolved(files, &["COLOUR=red"]).unwrap();
    let found: Vec<_> =
        spec.task.container.files.iter().map(|file| (file.file.bits(), file.content)).collect();
    assert_eq!(found, [(1, 1), (4, 1), (1, 1)]);
}

#[test]
fn every_refusal_says_which_and_why_and_nothing_of_the_content() {
    let secret = |name, variable| reference(FileKind::Secret, name, variable);
    let config = |name| reference(FileKind::Config, name, None);
    let mut pinned = secret("key", None);
    (pinned.pinned, pinned.content) = (true, 7);
    let cases = [
        (vec![secret("nokey", None)], "secret: no secret \"nokey\"\nhint: make it with `coracle secret create nokey FILE`; see `coracle secret ls`"
                .to_owned()),
        (vec![pinned], "secret: invalid value \"key@7\": it has no such version; there are 1".to_owned()),
        (
            vec![secret("bytes", Some("A"))],
            "secret: invalid value \"bytes\": it cannot be the variable A: it has a zero byte; give it as a file".to_owned(),
        ),
        (
            vec![secret("long", Some("A"))],
            "secret: invalid value \"long\": it cannot be the variable A: a variable has 128 KiB at most, with its name; give \
             it as a file"
                .to_owned(),
        ),
        (
            vec![config("conf")],
            "config: invalid value \"conf\": {{secret \"key\"}}: the service is not given it; add --secret key".to_owned(),
        ),
        (
            vec![config("conf"), secret("key", None)],
            "config: invalid value \"conf\": {{env \"COLOUR\"}}: the service has no such variable; add --env COLOUR=VALUE"
                .to_owned(),
        ),
    ];
    for (files, expected) in cases {
        assert_eq!(resolved(files, &[]).unwrap_err(), expected);
    }
    let wrong = resolved(vec![config("wrong")], &[]).unwrap_err();
    assert!(
        wrong.starts_with("config: invalid value \"wrong\": at character 1: {{.Task.Nope}} is not known"),
        "{wrong}"
    );
}
