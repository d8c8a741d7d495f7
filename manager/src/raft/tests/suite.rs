//! openraft's own tests of a store. Necessary, not sufficient: they never lose power (`coracle-wal` tests that).

use std::sync::Arc;

use coracle_seal::KeyRing;
use coracle_wal::{DiskStorage, Log, Options};
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;

use super::lab::ListState;
use crate::raft::Host;
use crate::raft::log_store::LogStore;
use crate::raft::snapshot::SnapshotStore;
use crate::raft::state_machine::StateMachine;
use crate::raft::types::TypeConfig;

/// One keyring for all stores: the suite hands a snapshot file of one to another, which a transfer would seal anew.
struct Builder(KeyRing);

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
        let directory = tempfile::tempdir().unwrap();
        let ring = self.0.clone();
        let storage = DiskStorage::open(&directory.path().join("log")).unwrap();
        // Small enough that segments and the cache's bound play a part.
        let options = Options { segment_bytes: 2000, cache_bytes: 100, ..Options::default() };
        let log = Arc::new(Log::open(storage, ring.clone(), &options).unwrap());
        let snapshots = Arc::new(DiskStorage::unlocked(&directory.path().join("snapshots")).unwrap());
        let snapshots = SnapshotStore::open(snapshots, &ring, None).unwrap();
        Ok((
            directory,
            LogStore::<Host>::new(log),
            StateMachine::new(Arc::new(ListState::default()), snapshots),
        ))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_storage_suite_of_openraft_passes() {
    Suite::test_all(Builder(KeyRing::in_memory().unwrap())).await.unwrap();
}
