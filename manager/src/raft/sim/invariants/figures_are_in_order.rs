//! What is purged is in the snapshot, what is in the snapshot was applied, what was applied is committed, what is
//! committed is in the log.

use super::{Invariant, Look};

pub(super) struct FiguresAreInOrder;

impl Invariant for FiguresAreInOrder {
    fn check(&mut self, look: &Look<'_>) -> Result<(), String> {
        for sight in &look.sights {
            let metrics = &sight.metrics;
            let index = |log_id: Option<crate::raft::types::LogId>| log_id.map(|log_id| log_id.index);
            let figures = [
                index(metrics.purged),
                index(metrics.snapshot),
                index(metrics.last_applied),
                index(metrics.local_committed),
                metrics.last_log_index,
            ];
            if !figures.is_sorted() {
                return Err(format!(
                    "manager {}: purged, snapshot, applied, committed, last are {figures:?}",
                    sight.raft_id
                ));
            }
        }
        Ok(())
    }
}
