//! Opening what one manager's Raft keeps on disk, in the order that keeps a crash at any point harmless.
//!
//! ```text
//! identity        to whom the directory belongs, sealed
//! log/            vote and entries (coracle-wal)
//! snapshots/      the newest snapshot and the one before it
//! ```
//! The identity is written last, when the log is there durably: from then on a missing log is a loss.

use std::sync::Arc;

use coracle_disk::Storage;
use coracle_seal::KeyRing;
use coracle_wal::{Log, Options, WalError};

use super::error::RaftStartError;
use super::identity::{self, Identity};
use super::snapshot::SnapshotStore;

const LOG: &str = "log";
const SNAPSHOTS: &str = "snapshots";

/// What Raft keeps on disk, opened and checked.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) log: Arc<Log>,
    pub(crate) snapshots: Arc<SnapshotStore>,
}

impl Files {
    /// Opens or creates what belongs to `identity` in `root`.
    pub(crate) fn open(
        root: &dyn Storage,
        ring: &KeyRing,
        identity: &Identity,
        options: &Options,
    ) -> Result<Self, RaftStartError> {
        Self::open_with(root, ring, identity, |storage| Log::open(storage, ring.clone(), options))
    }

    /// The same, with the log opened in some other way.
    pub(crate) fn open_with(
        root: &dyn Storage,
        ring: &KeyRing,
        identity: &Identity,
        open_log: impl FnOnce(Arc<dyn Storage>) -> Result<Log, WalError>,
    ) -> Result<Self, RaftStartError> {
        let used = identity::check(ring, root, identity)?;
        let path = root.path().join(LOG);
        let failed = |operation| {
            let path = path.clone();
            move |source| RaftStartError::File { operation, path, source }
        };
        let lost = || RaftStartError::LogLost { path: path.clone(), raft_id: identity.raft_id };
        // Looked at before it is made: an empty log in the place of a lost one would be taken for one that is there.
        if used && !root.list().map_err(failed("listing"))?.iter().any(|name| name == LOG) {
            return Err(lost());
        }
        let storage = subdirectory(root, LOG)?;
        if used && storage.list().map_err(failed("listing"))?.is_empty() {
            return Err(lost());
        }
        storage.lock().map_err(failed("locking"))?;
        let log = open_log(storage).map_err(|source| RaftStartError::Log { path, source })?;
        let purged = log.purged().map(|purged| purged.index);
        let snapshots = SnapshotStore::open(subdirectory(root, SNAPSHOTS)?, ring, purged)?;
        if !used {
            coracle_crash_point::crash_point!("raft.identity.before-write");
            identity::claim(ring, root, identity)?;
            coracle_crash_point::crash_point!("raft.identity.after-write");
        }
        Ok(Self { log: Arc::new(log), snapshots })
    }
}

fn subdirectory(root: &dyn Storage, name: &str) -> Result<Arc<dyn Storage>, RaftStartError> {
    root.subdirectory(name).map_err(|source| RaftStartError::File {
        operation: "opening directory",
        path: root.path().join(name),
        source,
    })
}

#[cfg(test)]
mod tests;
