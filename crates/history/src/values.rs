//! Whether every value that was read could have been there.

use std::collections::BTreeMap;
use std::fmt::Debug;

use crate::operation::{Answer, Operation};
use crate::order::Floors;
use crate::segments::{Transition, divide};
use crate::violation::{Rule, Violation};

/// Checks the reads of one key.
///
/// Between two acknowledged writes a read sees the first of them, unless a write of unknown outcome came between.
/// Every such change needs a write of its own that could have been there by then: as the writes that could are those
/// asked for before some moment, taking the changes in the order of these moments finds out whether there are enough.
pub(crate) fn check<K: Debug, V: Ord + Debug>(
    operations: &[&Operation<K, V>],
    floors: &Floors<'_, K, V>,
) -> Vec<Violation> {
    let mut changes: BTreeMap<&Option<V>, Vec<Transition<'_, K, V>>> = BTreeMap::new();
    let mut found = Vec::new();
    for transition in divide(operations).iter().flat_map(|segment| segment.transitions()) {
        if transition.possible {
            changes.entry(transition.value).or_default().push(transition);
        } else {
            found.push(impossible(operations, &transition));
        }
    }
    for (value, transitions) in changes {
        found.extend(explain(operations, floors, value, transitions));
    }
    found
}

/// Looks for a write of unknown outcome for each of these changes to one value.
fn explain<K: Debug, V: Eq + Debug>(
    operations: &[&Operation<K, V>],
    floors: &Floors<'_, K, V>,
    value: &Option<V>,
    transitions: Vec<Transition<'_, K, V>>,
) -> Vec<Violation> {
    let mut writes: Vec<&Operation<K, V>> =
        operations.iter().copied().filter(|operation| operation.possible() == Some(value)).collect();
    writes.sort_by_key(|operation| operation.invoked_at);
    let floor = |write: &Operation<K, V>| floors.before(write.invoked_at).map_or(0, |(index, _)| index);
    // What is known when a write is asked for only grows, so those that could have been there come first. (A write that
    // was asked for after the read was answered has at least the read's index as its floor.)
    let could =
        |transition: &Transition<'_, K, V>| writes.partition_point(|write| floor(write) < transition.index);
    let mut counted: Vec<(usize, Transition<'_, K, V>)> =
        transitions.into_iter().map(|transition| (could(&transition), transition)).collect();
    counted.sort_by_key(|(count, transition)| (*count, transition.index));
    let mut used = 0;
    let mut found = Vec::new();
    for (count, transition) in counted {
        if used < count {
            used += 1;
        } else {
            let rule = match (writes.first(), used) {
                (None, _) => unexplained(operations, &transition),
                (Some(_), 0) => Rule::FutureRead,
                (Some(_), _) => Rule::AppliedTwice,
            };
            found.push(violation(operations, rule, &transition));
        }
    }
    found
}

/// A change for which there is no index: the same state was seen otherwise, or just written otherwise.
fn impossible<K: Debug, V: Eq + Debug>(
    operations: &[&Operation<K, V>],
    transition: &Transition<'_, K, V>,
) -> Violation {
    let rule = match transition.before.and_then(Operation::seen) {
        Some(_) => Rule::Disagreement,
        None if operations.iter().any(|operation| operation.possible() == Some(transition.value)) => {
            Rule::LostWrite
        }
        None => unexplained(operations, transition),
    };
    violation(operations, rule, transition)
}

/// Why a value is wrong that no write of unknown outcome explains.
fn unexplained<K, V: Eq>(operations: &[&Operation<K, V>], transition: &Transition<'_, K, V>) -> Rule {
    let writes = || {
        let with_value = |operation: &&&Operation<K, V>| operation.kind.written() == Some(transition.value);
        operations.iter().filter(with_value)
    };
    let acknowledged = || writes().filter_map(|write| write.index());
    if transition.value.is_none() || acknowledged().any(|index| index <= transition.index) {
        // It was so once (all keys begin without a value): what came after is gone.
        return Rule::LostWrite;
    }
    if acknowledged().next().is_some() {
        return Rule::FutureRead;
    }
    if writes().any(|write| write.answer == Answer::Refused) { Rule::RefusedSeen } else { Rule::Phantom }
}

fn violation<K: Debug, V: Eq + Debug>(
    operations: &[&Operation<K, V>],
    rule: Rule,
    transition: &Transition<'_, K, V>,
) -> Violation {
    let writers = operations.iter().copied().filter(|one| one.kind.written() == Some(transition.value));
    let mut shown: Vec<&Operation<K, V>> = writers.take(3).chain(transition.before).collect();
    shown.push(transition.read);
    Violation::new(rule, &shown)
}
