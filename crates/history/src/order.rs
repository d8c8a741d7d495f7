//! What indices promise about time: later means higher.

use std::fmt::Debug;

use crate::operation::{Kind, Operation, Time};
use crate::violation::{Rule, Violation};

/// What everybody already knew at any moment: the highest index that was answered before.
#[derive(Debug)]
pub(crate) struct Floors<'a, K, V> {
    operations: &'a [Operation<K, V>],
    /// By time of completion; each with the highest index of it and all before it.
    completed: Vec<Completed<'a, K, V>>,
}

#[derive(Debug)]
struct Completed<'a, K, V> {
    at: Time,
    highest: u64,
    by: &'a Operation<K, V>,
}

impl<'a, K: Debug, V: Debug> Floors<'a, K, V> {
    pub(crate) fn of(operations: &'a [Operation<K, V>]) -> Self {
        let mut answered: Vec<&Operation<K, V>> =
            operations.iter().filter(|operation| operation.index().is_some()).collect();
        answered.sort_by_key(|operation| operation.completed_at);
        let mut completed: Vec<Completed<'_, K, V>> = Vec::with_capacity(answered.len());
        for operation in answered {
            let index = operation.index().unwrap_or_default();
            let (highest, by) = match completed.last() {
                Some(before) if before.highest >= index => (before.highest, before.by),
                _ => (index, operation),
            };
            completed.push(Completed { at: operation.completed_at, highest, by });
        }
        Self { operations, completed }
    }

    /// The highest index that was answered to anybody before this moment, and to whom. What was answered at the very
    /// moment is concurrent.
    pub(crate) fn before(&self, moment: Time) -> Option<(u64, &'a Operation<K, V>)> {
        let count = self.completed.partition_point(|completed| completed.at < moment);
        let last = &self.completed[count.checked_sub(1)?];
        Some((last.highest, last.by))
    }

    /// Every operation against what was known when it was asked for.
    pub(crate) fn check(&self) -> Vec<Violation> {
        let broken = self.operations.iter().filter_map(|operation| {
            let index = operation.index()?;
            let (floor, by) = self.before(operation.invoked_at)?;
            let rule = match operation.kind {
                // A state is as new as the floor or newer; a write makes a newer one.
                Kind::Read if index >= floor => return None,
                Kind::Write(_) | Kind::WriteIf { .. } if index > floor => return None,
                Kind::Write(_) | Kind::WriteIf { .. } => Rule::WriteOutOfOrder,
                Kind::Read if by.client != operation.client => Rule::StaleRead,
                Kind::Read if by.kind.written().is_some() => Rule::ReadYourWrites,
                Kind::Read => Rule::MonotonicReads,
            };
            Some(Violation::new(rule, &[by, operation]))
        });
        broken.collect()
    }
}

/// No two acknowledged writes have the same index.
pub(crate) fn unique_indices<K: Debug, V: Debug>(operations: &[Operation<K, V>]) -> Vec<Violation> {
    let mut writes: Vec<&Operation<K, V>> =
        operations.iter().filter(|operation| operation.acknowledged().is_some()).collect();
    writes.sort_by_key(|operation| operation.index());
    let pairs = writes.windows(2).filter(|pair| pair[0].index() == pair[1].index());
    pairs.map(|pair| Violation::new(Rule::IndexReused, &[pair[0], pair[1]])).collect()
}

/// Nothing that was acknowledged lies between a conditional write and the write that its client has read.
pub(crate) fn lost_updates<K: Debug, V: Debug>(operations: &[&Operation<K, V>]) -> Vec<Violation> {
    let mut writes: Vec<&Operation<K, V>> =
        operations.iter().copied().filter(|operation| operation.acknowledged().is_some()).collect();
    writes.sort_by_key(|operation| operation.index());
    let broken = writes.windows(2).filter_map(|pair| {
        let Kind::WriteIf { expected, .. } = pair[1].kind else { return None };
        (pair[0].index()? > expected).then(|| Violation::new(Rule::LostUpdate, &[pair[0], pair[1]]))
    });
    let impossible = writes.iter().filter_map(|operation| {
        let Kind::WriteIf { expected, .. } = operation.kind else { return None };
        (operation.index()? <= expected).then(|| Violation::new(Rule::LostUpdate, &[operation]))
    });
    broken.chain(impossible).collect()
}
