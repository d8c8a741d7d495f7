//! Election safety: a term has one leader at most.

use std::collections::BTreeMap;

use openraft::ServerState;

use super::{Invariant, Look};

#[derive(Default)]
pub(super) struct OneLeaderPerTerm(BTreeMap<u64, u64>);

impl Invariant for OneLeaderPerTerm {
    fn check(&mut self, look: &Look<'_>) -> Result<(), String> {
        for sight in look.sights.iter().filter(|sight| sight.metrics.state == ServerState::Leader) {
            let term = sight.metrics.current_term;
            if let Some(before) = self.0.insert(term, sight.raft_id)
                && before != sight.raft_id
            {
                return Err(format!("{before} and {} both led in term {term}", sight.raft_id));
            }
        }
        Ok(())
    }
}
