//! `secret …`, and what services take of secrets.

use std::collections::BTreeMap;

use coracle_manager_core::Change;
use coracle_model::cluster::Secret;
use coracle_model::id::FileId;
use coracle_model::secret::{Content, File, FileKind, FileReference, FileTarget};
use coracle_model::service::ServiceSpec;
use coracle_model::time::Timestamp;
use coracle_model::version::Version;

use super::Options;
use super::service::outcome;
use crate::world::World;

pub fn run(world: &mut World, verb: &str, name: &str, options: &Options<'_>) -> Vec<String> {
    let data = options.get("data").map(|data| Secret::new(data.as_bytes().to_vec()));
    match verb {
        "create" => {
            let file = file(world, name, data.unwrap_or_default());
            outcome(world, Change::CreateFile(file))
        }
        "update" => {
            let labels =
                options.get("label").map(|label| BTreeMap::from([(label.to_owned(), String::new())]));
            let change =
                Change::UpdateFile { file: id(world, name), expected: Version::default(), labels, data };
            outcome(world, change)
        }
        "remove" => {
            let file = id(world, name);
            outcome(world, Change::RemoveFile { file, expected: Version::default() })
        }
        "show" => {
            let file = world.state.file(id(world, name)).unwrap();
            let numbers: Vec<_> = file.contents.keys().map(ToString::to_string).collect();
            vec![format!("{name}: versions {}", numbers.join(", "))]
        }
        other => panic!("unknown command secret {other}"),
    }
}

fn file(world: &World, name: &str, data: Secret) -> File {
    let content = Content { created_at: Timestamp::EPOCH, data };
    File {
        id: FileId::from_bits(5000 + world.state.files().count() as u128),
        kind: FileKind::Secret,
        version: Version::default(),
        created_at: Timestamp::EPOCH,
        updated_at: Timestamp::EPOCH,
        name: name.parse().unwrap(),
        labels: BTreeMap::new(),
        template: false,
        contents: BTreeMap::from([(1, content)]),
    }
}

fn id(world: &World, name: &str) -> FileId {
    let name = name.parse().unwrap();
    world.state.file_by_name(FileKind::Secret, &name).map_or(FileId::from_bits(9), |file| file.id)
}

/// Sets the secrets of a specification: names, with `@NUMBER` where they are pinned, or `none`.
pub fn give(world: &World, spec: &mut ServiceSpec, options: &Options<'_>) {
    let Some(names) = options.get("secrets") else { return };
    let reference = |text: &str| {
        let (name, pin) = text.split_once('@').map_or((text, None), |(name, pin)| (name, Some(pin)));
        let (file, name) = (id(world, name), name.parse().unwrap());
        let latest = world.state.file(file).map_or(1, |file| file.latest());
        let content = pin.map_or(latest, |pin| pin.parse().unwrap());
        let target = FileTarget::File { path: text.to_owned(), uid: 0, gid: 0, mode: 0o444 };
        FileReference { kind: FileKind::Secret, name, file, content, pinned: pin.is_some(), target }
    };
    spec.task.container.files = names.split(',').filter(|name| *name != "none").map(reference).collect();
}

/// Which versions a service has.
pub fn of_service(spec: &ServiceSpec) -> String {
    let one = |reference: &FileReference| {
        let pinned = if reference.pinned { " (pinned)" } else { "" };
        format!("{}@{}{pinned}", reference.name, reference.content)
    };
    let all: Vec<_> = spec.task.container.files.iter().map(one).collect();
    if all.is_empty() { "no secrets".to_owned() } else { all.join(", ") }
}
