//! Which keys are to be planned, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use coracle_manager_core::Touched;
use coracle_manager_core::state::State;
use coracle_model::id::{FileId, NodeId, ServiceId};
use coracle_model::time::Timestamp;

/// A unit of planning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// What a node's condition means for its tasks. First: it gives up tasks that services then replace.
    Node(NodeId),
    /// A service's slots.
    Service(ServiceId),
    /// All tasks without a node.
    Schedule,
    /// A service's records that are no longer needed.
    Reap(ServiceId),
    /// Where a service's tasks would be better.
    Rebalance(ServiceId),
    /// Who follows a secret or a config, and which of its versions go.
    File(FileId),
}

impl Key {
    /// The loop that it belongs to.
    #[must_use]
    pub const fn loop_name(self) -> &'static str {
        match self {
            Self::Node(_) => "node",
            Self::Service(_) => "service",
            Self::Schedule => "scheduler",
            Self::Reap(_) => "reaper",
            Self::Rebalance(_) => "rebalance",
            Self::File(_) => "file",
        }
    }
}

/// Keys to plan now, and keys to plan later.
#[derive(Debug, Default)]
pub(super) struct Queue {
    now: BTreeSet<Key>,
    later: BTreeSet<(Timestamp, Key)>,
    wake: BTreeMap<Key, Timestamp>,
    /// How often in a row what was planned for a key was refused.
    refused: BTreeMap<Key, u32>,
}

/// Wait before a key is planned again whose plan was refused, the first time: by then there is a newer view. Twice as long each time,
/// since every try is an entry of the log.
const FIRST_WAIT: Duration = Duration::from_millis(5);
/// So often it becomes twice as long: two and a half seconds.
const LONGEST_WAIT: u32 = 9;

impl Queue {
    /// Plans `key` as soon as possible.
    pub(super) fn push(&mut self, key: Key) {
        self.now.insert(key);
    }

    /// Plans `key` at `time`; the last word on a key counts.
    pub(super) fn set_wake(&mut self, key: Key, time: Option<Timestamp>) {
        if let Some(old) = self.wake.remove(&key) {
            self.later.remove(&(old, key));
        }
        if let Some(time) = time {
            self.wake.insert(key, time);
            self.later.insert((time, key));
        }
    }

    /// What was planned for `key` was refused at this time: plans it again, later with each time. Says how often that was in a row.
    pub(super) fn refused(&mut self, key: Key, now: Timestamp) -> u32 {
        let times = self.refused.entry(key).or_default();
        let wait = FIRST_WAIT * (1 << (*times).min(LONGEST_WAIT));
        *times = times.saturating_add(1);
        let times = *times;
        self.set_wake(key, Some(now.after(wait)));
        times
    }

    /// What was planned for `key` was applied.
    pub(super) fn done(&mut self, key: Key) {
        self.refused.remove(&key);
    }

    /// Whether a key may be planned at once.
    pub(super) fn has_more(&self, under_way: &BTreeSet<Key>) -> bool {
        self.now.iter().any(|key| !under_way.contains(key))
    }

    /// The next key that may be planned: one that is not under way.
    pub(super) fn pop(&mut self, now: Timestamp, under_way: &BTreeSet<Key>) -> Option<Key> {
        while let Some((time, key)) = self.later.first().copied()
            && time <= now
        {
            self.later.remove(&(time, key));
            self.wake.remove(&key);
            self.now.insert(key);
        }
        let key = self.now.iter().find(|key| !under_way.contains(key)).copied()?;
        self.now.remove(&key);
        Some(key)
    }

    /// When the first of the keys for later is due.
    #[must_use]
    pub(super) fn next_wake(&self) -> Option<Timestamp> {
        self.later.first().map(|(time, _)| *time)
    }

    /// Queues what a batch of changes may have made necessary.
    pub(super) fn push_touched(&mut self, touched: &Touched, state: &State) {
        for service in &touched.services {
            self.push(Key::Service(*service));
            self.push(Key::Reap(*service));
            if state.is_rebalanced(*service) {
                self.push(Key::Rebalance(*service));
            }
        }
        if touched.membership {
            state.rebalanced_services().for_each(|service| self.push(Key::Rebalance(service)));
        }
        // Whom a task is reported of does not matter to the other tasks of its node: only what the node itself is.
        for node in &touched.changed_nodes {
            self.push(Key::Node(*node));
            state.services_on_node(*node).for_each(|service| self.push(Key::Service(service)));
        }
        if !touched.changed_nodes.is_empty() {
            state.global_services().for_each(|service| self.push(Key::Service(service.id)));
        }
        touched.files.iter().for_each(|file| self.push(Key::File(*file)));
        // Most of what agents report helps no task that waits: those are looked at again when something may help them.
        if touched.pending {
            self.push(Key::Schedule);
        }
    }

    /// Queues every key there is: after a change of leader, after a gap in the feed, and now and then.
    pub(super) fn push_everything(&mut self, state: &State) {
        state.nodes().for_each(|node| self.push(Key::Node(node.id)));
        state.files().for_each(|file| self.push(Key::File(file.id)));
        let services: BTreeSet<_> = state
            .services()
            .map(|service| service.id)
            .chain(state.tasks().map(|task| task.service))
            .collect();
        for service in services {
            self.push(Key::Service(service));
            self.push(Key::Reap(service));
        }
        state.rebalanced_services().for_each(|service| self.push(Key::Rebalance(service)));
        self.push(Key::Schedule);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(bits: u128) -> Key {
        Key::Service(ServiceId::from_bits(bits))
    }

    #[test]
    fn a_key_under_way_waits_and_is_not_forgotten() {
        let mut queue = Queue::default();
        queue.push(service(1));
        let under_way = BTreeSet::from([service(1)]);
        assert_eq!(queue.pop(Timestamp::EPOCH, &under_way), None);
        assert_eq!(queue.pop(Timestamp::EPOCH, &BTreeSet::new()), Some(service(1)));
    }

    #[test]
    fn who_is_refused_again_and_again_waits_longer_and_longer_until_it_is_not() {
        let (mut queue, mut now) = (Queue::default(), Timestamp::from_secs(1));
        let mut refuse = |queue: &mut Queue| {
            queue.refused(service(1), now);
            let wait = queue.next_wake().unwrap().since(now);
            now = now.after(wait);
            assert_eq!(queue.pop(now, &BTreeSet::new()), Some(service(1)));
            wait
        };
        assert_eq!(refuse(&mut queue), FIRST_WAIT);
        assert_eq!(refuse(&mut queue), FIRST_WAIT * 2);
        let longest = (0..100).map(|_| refuse(&mut queue)).max().unwrap();
        assert_eq!(longest, FIRST_WAIT * (1 << LONGEST_WAIT));
        queue.done(service(1));
        assert_eq!(refuse(&mut queue), FIRST_WAIT);
    }

    #[test]
    fn a_task_that_is_reported_is_no_change_of_its_node() {
        let mut queue = Queue::default();
        let mut touched = Touched::default();
        touched.services.insert(ServiceId::from_bits(1));
        touched.nodes.insert(NodeId::from_bits(2));
        queue.push_touched(&touched, &State::default());
        assert_eq!(queue.now, BTreeSet::from([service(1), Key::Reap(ServiceId::from_bits(1))]));
        touched.changed_nodes.insert(NodeId::from_bits(2));
        queue.push_touched(&touched, &State::default());
        assert!(queue.now.contains(&Key::Node(NodeId::from_bits(2))));
    }

    #[test]
    fn the_last_word_on_a_wake_counts() {
        let mut queue = Queue::default();
        queue.set_wake(service(1), Some(Timestamp::from_secs(5)));
        queue.set_wake(service(1), Some(Timestamp::from_secs(9)));
        assert_eq!(queue.pop(Timestamp::from_secs(6), &BTreeSet::new()), None);
        assert_eq!(queue.next_wake(), Some(Timestamp::from_secs(9)));
        assert_eq!(queue.pop(Timestamp::from_secs(9), &BTreeSet::new()), Some(service(1)));
        assert_eq!(queue.next_wake(), None);
    }
}
