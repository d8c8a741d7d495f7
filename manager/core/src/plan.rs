//! What planners take and give.

use coracle_model::id::{ServiceId, TaskId};
use coracle_model::task::Slot;
use coracle_model::time::Timestamp;

use crate::change::Change;
use crate::state::State;

/// A source of identifiers: random in the manager, counted in tests.
pub trait IdSource {
    /// 128 bits that were not given before.
    fn next(&mut self) -> u128;
}

/// What a planner knows besides the view.
pub struct PlanContext<'a> {
    /// The present, by the leader's clock.
    pub now: Timestamp,
    /// Where identifiers of new objects come from.
    pub ids: &'a mut dyn IdSource,
}

impl std::fmt::Debug for PlanContext<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PlanContext").field("now", &self.now).finish_non_exhaustive()
    }
}

impl PlanContext<'_> {
    /// The present, never before cluster time: a new leader's clock may be behind the former's.
    pub(crate) fn present(&self, state: &State) -> Timestamp {
        self.now.max(state.time())
    }

    pub(crate) fn new_task_id(&mut self) -> TaskId {
        TaskId::from_bits(self.ids.next())
    }
}

/// What a planner proposes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// In the order in which they are to be applied.
    pub changes: Vec<Change>,
    /// When to plan again although nothing was touched.
    pub wake_at: Option<Timestamp>,
    /// What cannot be done yet, and why.
    pub waiting: Vec<Waiting>,
}

/// Something that cannot be done yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// For which service.
    pub service: ServiceId,
    /// For which slot; none when it is about several.
    pub slot: Option<Slot>,
    /// How many tasks wait for this.
    pub tasks: u64,
    /// Why, for the operator.
    pub reason: String,
}

impl Plan {
    /// Whether there is nothing to do now.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Plans again at this time, unless that is asked for earlier already.
    pub fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Appends another plan.
    pub fn merge(&mut self, other: Self) {
        self.changes.extend(other.changes);
        self.waiting.extend(other.waiting);
        if let Some(at) = other.wake_at {
            self.wake(at);
        }
    }

    /// The changes in groups of about `limit`, for proposals of bounded size.
    ///
    /// Changes that must be in one proposal stay together ([`Change::belongs_to`]). Groups are to be
    /// proposed in order.
    #[must_use]
    pub fn into_batches(self, limit: usize) -> Vec<Vec<Change>> {
        let mut batches: Vec<Vec<Change>> = Vec::with_capacity(self.changes.len() / limit.max(1) + 1);
        for change in self.changes {
            match batches.last_mut() {
                Some(batch)
                    if batch.len() < limit
                        || batch.last().is_some_and(|previous| change.belongs_to(previous)) =>
                {
                    batch.push(change);
                }
                _ => batches.push(vec![change]),
            }
        }
        batches
    }
}
