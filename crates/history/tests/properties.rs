//! Histories of a right store pass; broken in any way, they do not.
#![allow(clippy::unwrap_used, reason = "tests")]

mod store;

use std::collections::BTreeMap;

use coracle_history::{Answer, History, Kind, Operation, Rule, linearize};
use proptest::prelude::*;
use store::{Key, Store};

const STEPS: u64 = 2_000_000;

fn scripts() -> impl Strategy<Value = Vec<(u8, u8)>> {
    proptest::collection::vec(any::<(u8, u8)>(), 1..120)
}

/// The history of a right store, with its end.
fn finished(script: &[(u8, u8)]) -> History<Key, u32> {
    let store = Store::run(script);
    let (index, state) = store.end();
    let mut history = store.history;
    history.finish(index, &state);
    history
}

fn rebuilt(operations: Vec<Operation<Key, u32>>) -> History<Key, u32> {
    let mut history = History::new();
    operations.into_iter().for_each(|operation| history.push(operation));
    history
}

/// The numbers of the operations that `wanted` accepts.
fn numbers(history: &History<Key, u32>, wanted: impl Fn(&Operation<Key, u32>) -> bool) -> Vec<usize> {
    let all = history.operations().iter().enumerate();
    all.filter(|(_, operation)| wanted(operation)).map(|(number, _)| number).collect()
}

fn set_index(operation: &mut Operation<Key, u32>, to: u64) {
    if let Answer::Ok { index, .. } = &mut operation.answer {
        *index = Some(to);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_right_store_passes(script in scripts()) {
        let history = finished(&script);
        prop_assert_eq!(history.check(), []);
        prop_assert_eq!(linearize::check(&history, STEPS), []);
    }

    #[test]
    fn a_lost_write_is_caught(script in scripts(), pick in any::<prop::sample::Index>()) {
        // The last acknowledged write of a key is gone at the end: the value before it is there.
        let store = Store::run(&script);
        let (index, mut state) = store.end();
        let lost = store.lose_last(pick.index(1 << 20));
        prop_assume!(lost.is_some());
        let (key, before) = lost.unwrap();
        match before {
            Some(value) => state.insert(key, value),
            None => state.remove(&key),
        };
        let mut history = store.history;
        history.finish(index, &state);
        prop_assert!(!history.check().is_empty());
    }

    #[test]
    fn a_phantom_is_caught(script in scripts(), pick in any::<prop::sample::Index>()) {
        let history = finished(&script);
        let reads = numbers(&history, |operation| operation.seen().is_some());
        prop_assume!(!reads.is_empty());
        let mut operations = history.operations().to_vec();
        let read = &mut operations[reads[pick.index(reads.len())]];
        let index = read.index().unwrap();
        read.answer = Answer::read(index, Some(u32::MAX));
        let rules: Vec<Rule> = rebuilt(operations).check().iter().map(|violation| violation.rule).collect();
        prop_assert!(rules.iter().any(|rule| matches!(rule, Rule::Phantom | Rule::Disagreement)), "{:?}", rules);
    }

    #[test]
    fn writes_in_the_wrong_order_are_caught(script in scripts(), pick in any::<prop::sample::Index>()) {
        let history = finished(&script);
        let writes = numbers(&history, |operation| operation.acknowledged().is_some());
        let all = history.operations();
        let apart = |(first, second): &(usize, usize)| all[*first].completed_at < all[*second].invoked_at;
        let pairs: Vec<(usize, usize)> = writes
            .iter()
            .flat_map(|first| writes.iter().map(|second| (*first, *second)))
            .filter(apart)
            .collect();
        prop_assume!(!pairs.is_empty());
        let (first, second) = pairs[pick.index(pairs.len())];
        let mut operations = all.to_vec();
        let (low, high) = (all[first].index().unwrap(), all[second].index().unwrap());
        set_index(&mut operations[first], high);
        set_index(&mut operations[second], low);
        prop_assert!(rebuilt(operations).check().iter().any(|one| one.rule == Rule::WriteOutOfOrder));
    }

    #[test]
    fn a_state_older_than_an_answer_is_caught(script in scripts(), pick in any::<prop::sample::Index>()) {
        let history = finished(&script);
        let all = history.operations();
        let floor = |read: &Operation<Key, u32>| {
            let before = all.iter().filter(|other| other.completed_at < read.invoked_at);
            before.filter_map(Operation::index).max().unwrap_or_default()
        };
        let reads = numbers(&history, |operation| operation.seen().is_some() && floor(operation) > 0);
        prop_assume!(!reads.is_empty());
        let number = reads[pick.index(reads.len())];
        let mut operations = all.to_vec();
        set_index(&mut operations[number], floor(&all[number]) - 1);
        let stale = [Rule::StaleRead, Rule::ReadYourWrites, Rule::MonotonicReads];
        prop_assert!(rebuilt(operations).check().iter().any(|one| stale.contains(&one.rule)));
    }

    /// Whatever the search for an order refuses, the check by indices refuses too.
    #[test]
    fn indices_know_at_least_as_much_as_the_search(
        script in scripts(),
        pick in any::<prop::sample::Index>(),
        other in any::<prop::sample::Index>(),
    ) {
        let history = finished(&script);
        let reads = numbers(&history, |operation| operation.seen().is_some());
        let writes = numbers(&history, |operation| operation.kind.written().is_some());
        prop_assume!(!reads.is_empty() && !writes.is_empty());
        let mut operations = history.operations().to_vec();
        let value = *operations[writes[other.index(writes.len())]].kind.written().unwrap();
        let read = &mut operations[reads[pick.index(reads.len())]];
        read.answer = Answer::read(read.index().unwrap(), value);
        let broken = rebuilt(operations);
        let search = linearize::check(&broken, STEPS);
        prop_assert!(search.iter().all(|one| one.rule != Rule::Inconclusive));
        if !search.is_empty() {
            prop_assert!(!broken.check().is_empty(), "{}", search[0]);
        }
    }
}

#[test]
fn large_histories_are_checked_quickly_enough_to_be_usable() {
    // Not timed: with a quadratic check this test would take minutes and be noticed.
    let mut history = History::new();
    let mut state = BTreeMap::new();
    for number in 0_u64..200_000 {
        let (key, value) = (u8::try_from(number % 7).unwrap(), u32::try_from(number).unwrap());
        let kind = Kind::Write(Some(value));
        history.record(1, key, kind, number * 10, number * 10 + 5, Answer::written(number + 1));
        history.record(
            2,
            key,
            Kind::Read,
            number * 10 + 6,
            number * 10 + 7,
            Answer::read(number + 1, Some(value)),
        );
        state.insert(key, value);
    }
    history.finish(300_000, &state);
    assert_eq!(history.check(), []);
}
