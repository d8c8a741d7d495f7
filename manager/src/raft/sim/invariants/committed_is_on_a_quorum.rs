//! What a leader calls committed is durable on a majority of the disks: power could go everywhere at once.

use std::collections::BTreeSet;
use std::sync::Arc;

use coracle_disk::Storage as _;
use coracle_disk::testing::CrashStorage;
use coracle_seal::KeyRing;
use coracle_wal::{Log, Options};
use openraft::ServerState;

use super::{Invariant, Look};
use crate::raft::types::term_of;

/// Of this many advances one is looked at: it means to open logs.
const ONE_OF: u64 = 12;

#[derive(Default)]
pub(super) struct CommittedIsOnAQuorum {
    last: u64,
    advances: u64,
}

impl Invariant for CommittedIsOnAQuorum {
    fn check(&mut self, look: &Look<'_>) -> Result<(), String> {
        for sight in look.sights.iter().filter(|sight| sight.metrics.state == ServerState::Leader) {
            let Some(committed) =
                sight.metrics.local_committed.filter(|committed| committed.index > self.last)
            else {
                continue;
            };
            self.last = committed.index;
            self.advances += 1;
            if !self.advances.is_multiple_of(ONE_OF) {
                continue;
            }
            let (index, term) = (committed.index, term_of(&committed));
            let has: BTreeSet<u64> = look
                .world
                .hosts()
                .into_iter()
                .filter(|raft_id| {
                    let (disk, ring) =
                        look.world.host(*raft_id, |host| (host.disk.clone(), host.ring.clone()));
                    keeps(&disk.after_power_loss(index ^ look.world.seed), &ring, index, term)
                })
                .collect();
            for voters in sight.metrics.membership_config.membership().get_joint_config() {
                let keep = voters.intersection(&has).count();
                if keep * 2 <= voters.len() {
                    return Err(format!(
                        "leader {} calls {index} (term {term}) committed; of {voters:?} only {has:?} keep it",
                        sight.raft_id
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Whether a disk that lost its power holds an entry, or dropped it because a snapshot covers it.
fn keeps(disk: &CrashStorage, ring: &KeyRing, index: u64, term: u64) -> bool {
    let Ok(storage) = disk.subdirectory("log") else { return false };
    let Ok((log, _stepper)) = Log::open_stepped(storage, ring.clone(), &Options::default(), || {}) else {
        return false;
    };
    let log = Arc::new(log);
    let stats = log.stats();
    if index < stats.first_index {
        return true;
    }
    log.read(index, index + 1, usize::MAX)
        .is_ok_and(|entries| entries.first().is_some_and(|entry| entry.term == term))
}
