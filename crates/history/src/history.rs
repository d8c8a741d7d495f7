//! The operations of all clients, and the checks over them.

use std::collections::BTreeMap;
use std::fmt::Debug;

use crate::operation::{Answer, Kind, Operation, Time};
use crate::violation::{Rule, Violation};
use crate::{order, values};

/// The client of the reads that [`History::finish`] adds.
const OBSERVER: u32 = u32::MAX;

/// The operations of all clients, in any order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History<K, V> {
    operations: Vec<Operation<K, V>>,
}

/// How many operations of which outcome there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// All.
    pub operations: usize,
    /// Writes that were done.
    pub writes: usize,
    /// Reads that were answered.
    pub reads: usize,
    /// Refused.
    pub refused: usize,
    /// Writes of which nobody knows (a read without an answer is not counted: it has no effect).
    pub unknown: usize,
}

impl<K, V> Default for History<K, V> {
    fn default() -> Self {
        Self { operations: Vec::new() }
    }
}

impl<K, V> History<K, V> {
    /// Without operations.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an operation. One that never got an answer is [`Answer::Unknown`], at whatever time.
    pub fn record(
        &mut self,
        client: u32,
        key: K,
        kind: Kind<V>,
        invoked_at: Time,
        completed_at: Time,
        answer: Answer<V>,
    ) {
        self.push(Operation { client, key, kind, invoked_at, completed_at, answer });
    }

    /// Adds an operation.
    pub fn push(&mut self, operation: Operation<K, V>) {
        self.operations.push(operation);
    }

    /// Adds what another recorder has, of the same clock.
    pub fn merge(&mut self, other: Self) {
        self.operations.extend(other.operations);
    }

    /// What was recorded.
    #[must_use]
    pub fn operations(&self) -> &[Operation<K, V>] {
        &self.operations
    }

    /// How many operations of which outcome there are.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let mut tally = Tally { operations: self.operations.len(), ..Tally::default() };
        for operation in &self.operations {
            match (&operation.kind, &operation.answer) {
                (_, Answer::Refused) => tally.refused += 1,
                (Kind::Read, Answer::Unknown) => {}
                (_, Answer::Unknown) => tally.unknown += 1,
                (Kind::Read, Answer::Ok { .. }) => tally.reads += 1,
                (_, Answer::Ok { .. }) => tally.writes += 1,
            }
        }
        tally
    }
}

impl<K: Ord + Clone + Debug, V: Ord + Clone + Debug> History<K, V> {
    /// Adds the state at the end, when everything has come to rest: one read of every key that was ever asked about
    /// and of every key that is there, by somebody who asked after everything else.
    ///
    /// With it, [`History::check`] finds acknowledged writes that are gone, and keys that nobody wrote.
    pub fn finish(&mut self, index: u64, state: &BTreeMap<K, V>) {
        let end = self.operations.iter().map(|one| one.completed_at.max(one.invoked_at)).max();
        let end = end.unwrap_or_default() + 1;
        let mut keys: Vec<K> = self.operations.iter().map(|operation| operation.key.clone()).collect();
        keys.extend(state.keys().cloned());
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            let value = state.get(&key).cloned();
            self.record(OBSERVER, key, Kind::Read, end, end + 1, Answer::read(index, value));
        }
    }

    /// What a linearizable store with an index per write can never show. All keys begin without a value.
    ///
    /// Operations that were done but have no index take part as if their outcome was unknown; check them with
    /// [`crate::linearize::check`]. The check is exact when every write writes another value, as tests should;
    /// where values repeat it may miss something, but what it reports is wrong in any case.
    #[must_use]
    pub fn check(&self) -> Vec<Violation> {
        let malformed = self.operations.iter().filter(|one| one.completed_at < one.invoked_at);
        let mut found: Vec<Violation> =
            malformed.map(|operation| Violation::new(Rule::Malformed, &[operation])).collect();
        let by_key = self.by_key();
        let floors = order::Floors::of(&self.operations);
        found.extend(order::unique_indices(&self.operations));
        found.extend(floors.check());
        for operations in by_key.values() {
            found.extend(order::lost_updates(operations));
            found.extend(values::check(operations, &floors));
        }
        found
    }

    fn by_key(&self) -> BTreeMap<&K, Vec<&Operation<K, V>>> {
        let mut by_key: BTreeMap<&K, Vec<&Operation<K, V>>> = BTreeMap::new();
        for operation in &self.operations {
            by_key.entry(&operation.key).or_default().push(operation);
        }
        by_key
    }
}
