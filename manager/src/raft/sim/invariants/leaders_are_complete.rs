//! Leader completeness: who is elected has everything that was committed in earlier terms.

use std::collections::{BTreeMap, BTreeSet};

use openraft::ServerState;

use super::{Invariant, Look};
use crate::raft::types::term_of;

#[derive(Default)]
pub(super) struct LeadersAreComplete {
    checked: BTreeSet<u64>,
    /// The highest log id known to be committed when a term was first seen to be led: index and term, by term.
    committed: BTreeMap<u64, (u64, u64)>,
}

impl Invariant for LeadersAreComplete {
    fn check(&mut self, look: &Look<'_>) -> Result<(), String> {
        for sight in &look.sights {
            let (metrics, term) = (&sight.metrics, sight.metrics.current_term);
            if let Some(committed) = metrics.local_committed {
                // Committed in this term or an earlier one: leaders of later terms must have it.
                let known = self.committed.entry(term).or_default();
                *known = (*known).max((committed.index, term_of(&committed)));
            }
        }
        for sight in look.sights.iter().filter(|sight| sight.metrics.state == ServerState::Leader) {
            let term = sight.metrics.current_term;
            let earlier = self.committed.range(..term).map(|(_, committed)| *committed).max();
            let Some((index, entry_term)) = earlier.filter(|_| self.checked.insert(term)) else { continue };
            let log = &sight.running.log;
            let stats = log.stats();
            if index < stats.first_index {
                continue;
            }
            let found = log
                .read(index, index + 1, usize::MAX)
                .ok()
                .and_then(|entries| entries.first().map(|entry| entry.term));
            if found != Some(entry_term) {
                return Err(format!(
                    "manager {} leads in term {term} and has {found:?} at {index}, which was committed with term \
                     {entry_term}",
                    sight.raft_id
                ));
            }
        }
        Ok(())
    }
}
