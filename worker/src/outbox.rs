//! Statuses on their way to the managers: the newest of each task, one batch under way.
//!
//! Pure. While a batch is under way newer statuses gather, so an idle agent reports at once and a busy one in
//! batches. What was not acknowledged when a session ended is sent again on the next.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use coracle_model::id::TaskId;
use coracle_model::task::TaskStatus;
use tokio::sync::Notify;

/// Statuses in one message at most.
const BATCH_LIMIT: usize = 1000;

/// Statuses that are under way together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) sequence: u64,
    pub(crate) statuses: BTreeMap<TaskId, TaskStatus>,
}

/// What the managers have not acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: BTreeMap<TaskId, TaskStatus>,
    under_way: Option<Batch>,
    last_sequence: u64,
}

impl Outbox {
    /// Replaces whatever waits for the task.
    pub(crate) fn put(&mut self, task: TaskId, status: TaskStatus) {
        self.waiting.insert(task, status);
    }

    /// The next batch, unless one is under way or nothing waits.
    pub(crate) fn take(&mut self) -> Option<Batch> {
        if self.under_way.is_some() || self.waiting.is_empty() {
            return None;
        }
        let rest = self.waiting.keys().nth(BATCH_LIMIT).copied();
        let rest = rest.map_or_else(BTreeMap::new, |first| self.waiting.split_off(&first));
        let statuses = std::mem::replace(&mut self.waiting, rest);
        self.last_sequence += 1;
        let batch = Batch { sequence: self.last_sequence, statuses };
        self.under_way = Some(batch.clone());
        Some(batch)
    }

    /// The managers have a batch: returns what was in it. Anything but the batch under way is ignored.
    pub(crate) fn acknowledge(&mut self, sequence: u64) -> BTreeMap<TaskId, TaskStatus> {
        match self.under_way.take() {
            Some(batch) if batch.sequence == sequence => batch.statuses,
            other => {
                self.under_way = other;
                BTreeMap::new()
            }
        }
    }

    /// The session ended: what was under way waits again, where nothing newer does.
    pub(crate) fn interrupt(&mut self) {
        for (task, status) in self.under_way.take().map(|batch| batch.statuses).into_iter().flatten() {
            self.waiting.entry(task).or_insert(status);
        }
    }

    /// Nobody needs to know about the task any more.
    pub(crate) fn forget(&mut self, task: TaskId) {
        self.waiting.remove(&task);
    }
}

/// The outbox between the desk, which fills it, and the session, which empties it.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    outbox: Mutex<Outbox>,
    filled: Notify,
}

impl Outgoing {
    pub(crate) fn put(&self, task: TaskId, status: TaskStatus) {
        self.outbox().put(task, status);
        self.filled.notify_one();
    }

    pub(crate) fn forget(&self, task: TaskId) {
        self.outbox().forget(task);
    }

    /// Waits until something was put. Cancel-safe.
    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Exclusive access; nothing panics while it is held, so a poisoned lock is whole.
    pub(crate) fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use coracle_model::task::TaskState;
    use proptest::prelude::*;

    use super::*;

    fn status(pid: u32) -> TaskStatus {
        TaskStatus { state: TaskState::Running, pid, ..TaskStatus::default() }
    }

    fn task(bits: u128) -> TaskId {
        TaskId::from_bits(bits)
    }

    #[test]
    fn one_batch_is_under_way_and_newer_statuses_gather() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.take(), None);
        outbox.put(task(1), status(1));
        let first = outbox.take().unwrap();
        outbox.put(task(1), status(2));
        outbox.put(task(1), status(3));
        assert_eq!(outbox.take(), None);
        assert_eq!(outbox.acknowledge(first.sequence + 7), BTreeMap::new());
        assert_eq!(outbox.acknowledge(first.sequence), first.statuses);
        assert_eq!(outbox.take().unwrap().statuses[&task(1)], status(3));
    }

    #[test]
    fn an_interrupted_batch_is_sent_again_but_not_over_newer_statuses() {
        let mut outbox = Outbox::default();
        outbox.put(task(1), status(1));
        outbox.put(task(2), status(1));
        outbox.take().unwrap();
        outbox.put(task(1), status(2));
        outbox.interrupt();
        let again = outbox.take().unwrap();
        assert_eq!(again.statuses, BTreeMap::from([(task(1), status(2)), (task(2), status(1))]));
    }

    #[test]
    fn a_batch_is_bounded() {
        let mut outbox = Outbox::default();
        for bits in 0..2500 {
            outbox.put(task(bits), status(1));
        }
        let mut sizes = Vec::new();
        while let Some(batch) = outbox.take() {
            sizes.push(batch.statuses.len());
            outbox.acknowledge(batch.sequence);
        }
        assert_eq!(sizes, [1000, 1000, 500]);
    }

    proptest! {
        /// Whatever is put, taken, acknowledged or interrupted: in the end the managers have the newest of each.
        #[test]
        fn the_newest_status_always_arrives(steps in prop::collection::vec((0u8..4, 0u128..4), 0..60)) {
            let mut outbox = Outbox::default();
            let mut newest = BTreeMap::new();
            let mut arrived = BTreeMap::new();
            let mut pid = 0;
            let mut sequence = 0;
            let steps = steps.into_iter().chain([(3, 0), (2, 0), (1, 0), (2, 0), (1, 0)]);
            for (step, id) in steps {
                match step {
                    0 => {
                        pid += 1;
                        newest.insert(task(id), status(pid));
                        outbox.put(task(id), status(pid));
                    }
                    1 => arrived.extend(outbox.acknowledge(sequence)),
                    2 => sequence = outbox.take().map_or(sequence, |batch| batch.sequence),
                    _ => outbox.interrupt(),
                }
            }
            prop_assert_eq!(arrived, newest);
        }
    }
}
