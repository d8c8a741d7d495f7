//! Vote, committed and applied of one life never go back, and the vote never goes back at all.

use std::collections::BTreeMap;

use super::{Invariant, Look};
use crate::raft::types::Vote;

type Figures = (Vote, Option<u64>, Option<u64>, Option<u64>);

#[derive(Default)]
pub(super) struct FiguresOnlyRise(BTreeMap<(u64, u64), Figures>);

impl Invariant for FiguresOnlyRise {
    fn check(&mut self, look: &Look<'_>) -> Result<(), String> {
        for sight in &look.sights {
            let metrics = &sight.metrics;
            let index = |log_id: Option<crate::raft::types::LogId>| log_id.map(|log_id| log_id.index);
            let new = (
                metrics.vote,
                index(metrics.local_committed),
                index(metrics.last_applied),
                index(metrics.snapshot),
            );
            if let Some(old) = self.0.insert((sight.raft_id, sight.life), new)
                && !(old.0 <= new.0 && old.1 <= new.1 && old.2 <= new.2 && old.3 <= new.3)
            {
                return Err(format!("manager {} went back from {old:?} to {new:?}", sight.raft_id));
            }
        }
        Ok(())
    }
}
