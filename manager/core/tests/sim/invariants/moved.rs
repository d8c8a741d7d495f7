use std::collections::BTreeSet;

use coracle_manager_core::State;
use coracle_model::id::TaskId;
use coracle_model::rebalance::Move;

/// The tasks that took the place of others on better nodes: such two may be in a slot, and run in it, at a time.
#[derive(Debug, Default)]
pub(crate) struct Moved(BTreeSet<(TaskId, TaskId)>);

impl Moved {
    /// Looks which are moved now.
    pub(crate) fn look(&mut self, state: &State) {
        let moving = state.services().filter_map(|service| service.rebalance.as_ref()?.moving);
        self.0.extend(moving.map(|Move { from, to }| (from, to)));
    }

    /// Whether these are two of which one took the place of the other.
    pub(super) fn explain(&self, tasks: &[TaskId]) -> bool {
        match tasks {
            [one, other] => self.0.contains(&(*one, *other)) || self.0.contains(&(*other, *one)),
            _ => false,
        }
    }
}
