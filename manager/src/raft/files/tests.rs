//! A manager's files on a disk that loses power, or whose bytes change.

mod damage;
mod power_loss;

use std::io::{Read as _, Write as _};
use std::sync::mpsc;

use bytes::Bytes;
use coracle_disk::testing::CrashStorage;
use coracle_seal::KeyRing;
use coracle_wal::{Entry, Log, Options, Purged, WalError};

use super::{Files, Identity};
use crate::raft::error::RaftStartError;
use crate::raft::snapshot::SnapshotStore;
use crate::raft::types::{SnapshotMeta, StoredMembership, log_id};

fn identity() -> Identity {
    Identity { cluster_id: "cluster".to_owned(), raft_id: 7 }
}

/// Segments so small that every few entries begin a new one.
fn options() -> Options {
    Options { segment_bytes: 2000, cache_bytes: 1000, batch_bytes: 1500 }
}

fn open(storage: &CrashStorage, ring: &KeyRing) -> Result<Files, RaftStartError> {
    Files::open(storage, ring, &identity(), &options())
}

/// All that a manager of this test knows: every entry since the beginning, and its vote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    entries: Vec<(u64, Bytes)>,
    vote: Option<Bytes>,
}

impl State {
    /// What the files say: the snapshot, then the log behind it. Panics at a hole.
    fn read(files: &Files) -> Self {
        let (log, stats) = (&files.log, files.log.stats());
        let mut entries = snapshot_content(&files.snapshots);
        let covered = entries.len() as u64;
        let purged = log.purged().map_or(0, |purged| purged.index + 1);
        assert!(purged <= covered, "dropped before {purged}, but the snapshot covers {covered} entries");
        assert!(stats.first_index <= covered, "a hole between {covered} and {}", stats.first_index);
        if stats.next_index > covered {
            let stored = log.read(covered, stats.next_index, usize::MAX).unwrap();
            entries.extend(stored.into_iter().map(|entry| (entry.term, entry.payload)));
        }
        Self { entries, vote: log.vote() }
    }

    fn next(&self) -> u64 {
        self.entries.len() as u64
    }
}

fn snapshot_content(snapshots: &SnapshotStore) -> Vec<(u64, Bytes)> {
    let Some((meta, file)) = snapshots.current() else { return Vec::new() };
    let mut reader = snapshots.reader(&file).unwrap();
    let mut content = String::new();
    reader.read_to_string(&mut content).unwrap();
    reader.finish().unwrap();
    let entries: Vec<_> = content
        .lines()
        .map(|line| {
            let (term, payload) = line.split_once(' ').unwrap();
            (term.parse().unwrap(), Bytes::copy_from_slice(payload.as_bytes()))
        })
        .collect();
    assert_eq!(meta.last_log_id.unwrap().index + 1, entries.len() as u64);
    entries
}

/// Makes a snapshot of the first `count` entries the current one, as building and installing do.
fn snapshot(snapshots: &SnapshotStore, state: &State, count: u64) -> std::io::Result<()> {
    let covered = &state.entries[..count as usize];
    let meta = SnapshotMeta {
        last_log_id: Some(log_id(covered.last().unwrap().0, count - 1)),
        last_membership: StoredMembership::default(),
    };
    let (name, mut writer) = snapshots.begin(&meta)?;
    let written = covered.iter().try_for_each(|(term, payload)| {
        let payload = std::str::from_utf8(payload).unwrap();
        writeln!(writer, "{term} {payload}")
    });
    if let Err(error) = written.and_then(|()| writer.finish()) {
        snapshots.discard(&name);
        return Err(error);
    }
    snapshots.adopt(&meta, snapshots.finished(name))?;
    Ok(())
}

/// Drops the log before entry `count`.
fn purge(log: &Log, state: &State, count: u64) -> Result<(), WalError> {
    log.purge(Purged { index: count - 1, term: state.entries[count as usize - 1].0 })
}

fn entry(index: u64, term: u64, filling: usize) -> Entry {
    Entry { index, term, payload: Bytes::from(format!("entry-{index}-{term}-{}", "x".repeat(filling))) }
}

/// Waits until what `submit` began is durable.
fn durably(submit: impl FnOnce(coracle_wal::Completion) -> Result<(), WalError>) -> Result<(), WalError> {
    let (sender, receiver) = mpsc::channel();
    submit(Box::new(move |result| sender.send(result).unwrap()))?;
    receiver.recv().unwrap()
}
