//! Which test reaches which point. The names are those of `crates/crash-point/points.txt`, each in the sources once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The list that the product is compiled with.
const LIST: &str = include_str!("../../../../crates/crash-point/points.txt");

/// What has to be going on for a point to be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    /// The first start on an empty disk, and `swarm init`.
    Birth,
    /// Small writes to the replicated state, with a log that is cut often.
    Log,
    /// Images are loaded.
    Images,
    /// A volume is replaced by the content of an archive, again and again.
    Volumes,
    /// Containers come and go; the daemon is killed.
    Containers,
    /// The same; the supervisor or the container's init is killed.
    Supervisors,
    /// Another node joins as a worker.
    JoinWorker,
    /// Another node joins as a manager, and gets a snapshot.
    JoinManager,
    /// An image goes from one node to another.
    Fetch,
    /// A worker becomes a manager.
    Promote,
    /// A worker leaves.
    Leave,
}

/// A point, and the time at which it is to be reached: late enough for the work to have begun.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point {
    pub(crate) name: &'static str,
    pub(crate) count: u64,
    pub(crate) group: Group,
}

const fn at(group: Group, name: &'static str, count: u64) -> Point {
    Point { name, count, group }
}

use Group::{
    Birth, Containers, Fetch, Images, JoinManager, JoinWorker, Leave, Log, Promote, Supervisors, Volumes,
};

pub(crate) const POINTS: &[Point] = &[
    at(Birth, "key-ring.before-write", 1),
    at(Birth, "key-ring.after-wrapping-key", 1),
    at(Birth, "key-ring.after-write", 1),
    at(Birth, "seal.atomic.before-rename", 1),
    at(Birth, "seal.atomic.after-rename", 3),
    at(Birth, "init.before-forget", 1),
    at(Birth, "wal.fence.before-rename", 1),
    at(Birth, "raft.identity.before-write", 1),
    at(Birth, "raft.identity.after-write", 1),
    at(Birth, "membership.before-write", 1),
    at(Birth, "membership.after-write", 1),
    at(Log, "wal.before-write", 20),
    at(Log, "wal.before-sync", 20),
    at(Log, "wal.after-sync", 20),
    at(Log, "wal.after-segment-create", 2),
    at(Log, "wal.fence.before-write", 20),
    at(Log, "wal.fence.after-write", 20),
    at(Log, "wal.remove.before", 1),
    at(Log, "wal.remove.after", 2),
    at(Log, "raft.vote.before-save", 1),
    at(Log, "raft.vote.after-save", 1),
    at(Log, "raft.apply.before", 40),
    at(Log, "raft.apply.after", 10),
    at(Log, "raft.purge.before", 1),
    at(Log, "snapshot.build.begun", 1),
    at(Log, "snapshot.build.before-sync", 2),
    at(Log, "snapshot.before-rename", 1),
    at(Log, "snapshot.after-rename", 1),
    at(Log, "snapshot.before-remove-old", 2),
    at(Images, "image.blob.before-rename", 1),
    at(Images, "image.blob.after-rename", 2),
    at(Images, "image.layer.before-unpack", 1),
    at(Images, "image.layer.before-rename", 1),
    at(Images, "image.layer.after-rename", 1),
    at(Images, "image.record.before-rename", 1),
    at(Images, "image.record.after-rename", 1),
    at(Containers, "journal.before-write", 4),
    at(Containers, "journal.after-write", 4),
    at(Containers, "journal.after-sync", 3),
    at(Containers, "container.before-record", 1),
    at(Containers, "container.after-record", 1),
    at(Containers, "container.after-folders", 1),
    at(Containers, "cgroup.after-create", 1),
    at(Containers, "supervisor.before-start", 1),
    at(Containers, "supervisor.after-start", 1),
    at(Containers, "container.created", 1),
    at(Containers, "container.before-start", 1),
    at(Containers, "container.after-start", 1),
    at(Containers, "volume.create.before-rename", 1),
    at(Containers, "volume.create.after-rename", 2),
    at(Containers, "volume.remove.after-rename", 1),
    // The first one makes the volume.
    at(Volumes, "volume.restore.unpacked", 3),
    at(Volumes, "volume.replace.before-exchange", 2),
    at(Volumes, "volume.replace.after-exchange", 2),
    at(Volumes, "volume.replace.before-remove-old", 2),
    at(Containers, "container.delete.begun", 1),
    at(Containers, "container.delete.after-kill", 1),
    at(Containers, "container.delete.after-cgroup", 1),
    at(Containers, "container.delete.after-run", 1),
    at(Supervisors, "supervisor.locked", 1),
    at(Supervisors, "supervisor.before-clone", 1),
    at(Supervisors, "supervisor.before-state", 1),
    at(Supervisors, "supervisor.after-state", 1),
    at(Supervisors, "supervisor.start.before", 1),
    at(Supervisors, "supervisor.start.after", 1),
    at(Supervisors, "init.before-overlay", 1),
    at(Supervisors, "init.after-overlay", 1),
    at(Supervisors, "init.before-pivot", 1),
    at(Supervisors, "init.after-pivot", 1),
    at(Supervisors, "init.before-execute", 1),
    at(Supervisors, "exit-record.before-write", 1),
    at(Supervisors, "exit-record.before-rename", 1),
    at(Supervisors, "exit-record.after-rename", 1),
    at(JoinWorker, "join.before-certificate", 1),
    at(JoinWorker, "join.after-certificate", 1),
    at(JoinWorker, "membership.before-write", 1),
    at(JoinWorker, "membership.after-write", 1),
    at(JoinManager, "manager.id-reserved", 1),
    at(JoinManager, "membership.before-write", 1),
    at(JoinManager, "snapshot.install.before", 1),
    at(JoinManager, "snapshot.install.adopted", 1),
    at(JoinManager, "snapshot.install.after", 1),
    at(Fetch, "image.fetch.before-commit", 2),
    at(Promote, "identity.renewed", 1),
    at(Leave, "leave.before-stop", 1),
    at(Leave, "leave.after-tasks", 1),
    at(Leave, "leave.after-membership", 1),
    at(Leave, "leave.after-raft", 1),
];

/// The points of a group; `CORACLE_CRASH_POINTS` narrows all tests to those with this text in their names.
pub(crate) fn of(group: Group) -> impl Iterator<Item = Point> {
    let wanted = std::env::var("CORACLE_CRASH_POINTS").unwrap_or_default();
    POINTS.iter().copied().filter(move |point| point.group == group && point.name.contains(&wanted))
}

/// List, sources and table name the same points, and no source names one twice.
pub(crate) fn check() {
    let listed: Vec<&str> = LIST
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let all: BTreeSet<&str> = listed.iter().copied().collect();
    assert_eq!(all.len(), listed.len(), "a name is listed twice");
    let tabled: BTreeSet<&str> = POINTS.iter().map(|point| point.name).collect();
    assert_eq!(tabled, all, "the table of this test and points.txt differ");
    let found = in_sources();
    let once: BTreeSet<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(once, all, "the sources and points.txt differ");
    let twice: Vec<_> = found.iter().filter(|(_, places)| places.len() > 1).collect();
    assert!(twice.is_empty(), "in the sources more than once: {twice:?}");
}

/// The points in all sources except the crate that defines them, with where they are.
fn in_sources() -> BTreeMap<String, Vec<PathBuf>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    let mut folders: Vec<PathBuf> =
        ["agent-runtime", "cli", "crates", "manager", "proto", "worker"].map(|name| root.join(name)).into();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.ends_with("crates/crash-point") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source is text");
                for rest in text.split("crash_point!(\"").skip(1) {
                    let name = rest.split('"').next().unwrap_or_default();
                    found.entry(name.to_owned()).or_default().push(path.clone());
                }
            }
        }
    }
    found
}
