//! Hand-made histories: right ones pass, and each kind of wrong one is caught by its name.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use coracle_history::{Answer, History, Kind, Rule, linearize};

type Registers = History<&'static str, u32>;

fn write(value: u32) -> Kind<u32> {
    Kind::Write(Some(value))
}

fn rules(history: &Registers) -> Vec<Rule> {
    let mut rules: Vec<Rule> = history.check().iter().map(|violation| violation.rule).collect();
    rules.dedup();
    rules
}

/// Whether the search for an order finds one.
fn has_order(history: &Registers) -> bool {
    linearize::check(history, 100_000).is_empty()
}

/// `x = 1` at index 5, acknowledged at time 20.
fn one_write() -> Registers {
    let mut history = Registers::new();
    history.record(1, "x", write(1), 10, 20, Answer::written(5));
    history
}

#[test]
fn what_a_right_store_shows_passes() {
    let mut history = one_write();
    history.record(2, "x", Kind::Read, 12, 13, Answer::read(4, None));
    history.record(2, "x", Kind::Read, 14, 16, Answer::read(5, Some(1)));
    history.record(3, "x", Kind::Read, 15, 30, Answer::read(6, Some(1)));
    history.record(1, "x", write(2), 30, 40, Answer::Unknown);
    history.record(2, "x", Kind::Read, 50, 60, Answer::read(7, Some(1)));
    history.record(2, "x", Kind::Read, 70, 80, Answer::read(9, Some(2)));
    history.record(1, "x", write(3), 70, 80, Answer::Refused);
    history.record(1, "x", Kind::WriteIf { value: None, expected: 8 }, 90, 95, Answer::written(10));
    history.record(2, "x", Kind::Read, 96, 99, Answer::read(10, None));
    history.finish(12, &BTreeMap::new());
    assert_eq!(history.check(), []);
    assert!(has_order(&history));
}

#[test]
fn the_tally_counts_by_outcome() {
    let mut history = one_write();
    history.record(1, "x", write(2), 30, 40, Answer::Unknown);
    history.record(1, "x", write(3), 50, 60, Answer::Refused);
    history.record(1, "x", Kind::Read, 70, 80, Answer::Unknown);
    history.record(1, "x", Kind::Read, 90, 95, Answer::read(5, Some(1)));
    let tally = history.tally();
    let counts = (tally.operations, tally.writes, tally.reads, tally.refused, tally.unknown);
    assert_eq!(counts, (5, 1, 1, 1, 1));
}

#[test]
fn an_answer_before_the_question_is_caught() {
    let mut history = Registers::new();
    history.record(1, "x", write(1), 10, 5, Answer::written(5));
    assert_eq!(rules(&history)[0], Rule::Malformed);
}

#[test]
fn an_index_of_two_writes_is_caught() {
    let mut history = one_write();
    history.record(2, "y", write(2), 10, 20, Answer::written(5));
    assert_eq!(rules(&history), [Rule::IndexReused]);
}

#[test]
fn a_write_below_an_earlier_answer_is_caught() {
    let mut history = one_write();
    history.record(2, "y", write(2), 30, 40, Answer::written(4));
    assert_eq!(rules(&history), [Rule::WriteOutOfOrder]);
    // At the moment of the answer is not after it.
    let mut history = one_write();
    history.record(2, "y", write(2), 20, 40, Answer::written(4));
    assert_eq!(rules(&history), []);
}

#[test]
fn a_write_into_a_state_that_was_read_is_caught() {
    let mut history = Registers::new();
    history.record(1, "x", Kind::Read, 10, 20, Answer::read(5, None));
    history.record(2, "y", write(2), 30, 40, Answer::written(5));
    assert_eq!(rules(&history), [Rule::WriteOutOfOrder]);
}

#[test]
fn a_read_of_what_was_before_anothers_write_is_caught() {
    let mut history = one_write();
    history.record(2, "x", Kind::Read, 30, 40, Answer::read(4, None));
    assert_eq!(rules(&history), [Rule::StaleRead]);
    assert!(!has_order(&history));
}

#[test]
fn a_client_that_does_not_see_its_write_is_caught() {
    let mut history = one_write();
    history.record(1, "x", Kind::Read, 30, 40, Answer::read(4, None));
    assert_eq!(rules(&history), [Rule::ReadYourWrites]);
}

#[test]
fn a_client_that_sees_an_older_state_than_before_is_caught() {
    let mut history = Registers::new();
    history.record(1, "x", Kind::Read, 10, 20, Answer::read(5, None));
    history.record(1, "x", Kind::Read, 30, 40, Answer::read(4, None));
    assert_eq!(rules(&history), [Rule::MonotonicReads]);
}

#[test]
fn a_value_from_a_later_index_is_caught() {
    let mut history = one_write();
    history.record(2, "x", Kind::Read, 10, 20, Answer::read(4, Some(1)));
    assert_eq!(rules(&history), [Rule::FutureRead]);
}

#[test]
fn a_value_that_was_not_yet_asked_for_is_caught() {
    let mut history = Registers::new();
    history.record(2, "x", Kind::Read, 10, 20, Answer::read(4, Some(1)));
    history.record(1, "x", write(1), 30, 40, Answer::Unknown);
    assert_eq!(rules(&history), [Rule::FutureRead]);
    assert!(!has_order(&history));
}

#[test]
fn a_state_older_than_its_write_is_caught() {
    // The write was asked for when index 6 was known, so it cannot be part of the state at 5.
    let mut history = Registers::new();
    history.record(1, "y", write(9), 1, 5, Answer::written(6));
    history.record(1, "x", write(1), 10, 40, Answer::Unknown);
    history.record(2, "x", Kind::Read, 3, 20, Answer::read(5, Some(1)));
    assert_eq!(rules(&history), [Rule::FutureRead]);
}

#[test]
fn a_value_that_nobody_wrote_is_caught() {
    let mut history = one_write();
    history.record(2, "x", Kind::Read, 30, 40, Answer::read(6, Some(7)));
    assert_eq!(rules(&history), [Rule::Phantom]);
    assert!(!has_order(&history));
    let mut history = one_write();
    history.finish(9, &BTreeMap::from([("x", 1), ("z", 3)]));
    assert_eq!(rules(&history), [Rule::Phantom], "a key that nobody wrote");
}

#[test]
fn a_value_that_was_refused_is_caught() {
    let mut history = one_write();
    history.record(1, "x", write(2), 30, 40, Answer::Refused);
    history.record(2, "x", Kind::Read, 50, 60, Answer::read(6, Some(2)));
    assert_eq!(rules(&history), [Rule::RefusedSeen]);
    assert!(!has_order(&history));
}

#[test]
fn an_acknowledged_write_that_is_gone_is_caught() {
    let mut history = one_write();
    history.finish(9, &BTreeMap::new());
    assert_eq!(rules(&history), [Rule::LostWrite], "nothing is left");
    assert!(!has_order(&history));

    let mut history = one_write();
    history.record(1, "x", write(2), 30, 40, Answer::written(8));
    history.finish(9, &BTreeMap::from([("x", 1)]));
    assert_eq!(rules(&history), [Rule::LostWrite], "the value before it is back");

    let mut history = one_write();
    history.record(1, "x", Kind::Write(None), 30, 40, Answer::written(8));
    history.finish(9, &BTreeMap::from([("x", 1)]));
    assert_eq!(rules(&history), [Rule::LostWrite], "what was removed is back");
}

#[test]
fn a_write_that_is_not_in_its_own_state_is_caught() {
    let mut history = Registers::new();
    history.record(2, "x", write(2), 5, 50, Answer::Unknown);
    history.record(1, "x", write(1), 10, 20, Answer::written(5));
    history.record(1, "x", Kind::Read, 10, 20, Answer::read(5, Some(2)));
    assert_eq!(rules(&history), [Rule::LostWrite]);
}

#[test]
fn an_acknowledged_write_may_be_overwritten_by_one_of_unknown_outcome() {
    let mut history = one_write();
    history.record(1, "x", write(2), 30, 40, Answer::Unknown);
    let mut done = history.clone();
    done.finish(9, &BTreeMap::from([("x", 2)]));
    assert_eq!(rules(&done), []);
    history.finish(9, &BTreeMap::from([("x", 1)]));
    assert_eq!(rules(&history), []);
}

#[test]
fn an_unknown_write_that_happens_twice_is_caught() {
    let mut history = one_write();
    history.record(1, "x", write(2), 30, 40, Answer::Unknown);
    history.record(2, "x", Kind::Read, 50, 60, Answer::read(6, Some(2)));
    history.record(1, "x", write(3), 70, 80, Answer::written(8));
    history.record(2, "x", Kind::Read, 90, 95, Answer::read(9, Some(3)));
    assert_eq!(rules(&history), []);
    history.finish(12, &BTreeMap::from([("x", 2)]));
    assert_eq!(rules(&history), [Rule::AppliedTwice]);
    assert!(!has_order(&history));
}

#[test]
fn two_unknown_removals_may_both_happen_but_not_three_times() {
    let mut history = Registers::new();
    let mut now = 0;
    let mut step = |history: &mut Registers, kind, answer| {
        history.record(1, "x", kind, now, now + 1, answer);
        now += 2;
    };
    for value in 1..=2 {
        step(&mut history, Kind::Write(None), Answer::Unknown);
        step(&mut history, write(value), Answer::written(u64::from(value) * 10));
        step(&mut history, Kind::Read, Answer::read(u64::from(value) * 10 + 5, None));
    }
    assert_eq!(rules(&history), []);
    step(&mut history, write(3), Answer::written(30));
    step(&mut history, Kind::Read, Answer::read(35, None));
    assert_eq!(rules(&history), [Rule::AppliedTwice]);
}

#[test]
fn two_answers_about_one_state_are_caught() {
    let mut history = one_write();
    history.record(2, "x", write(2), 10, 40, Answer::Unknown);
    history.record(2, "x", Kind::Read, 50, 60, Answer::read(6, Some(1)));
    history.record(3, "x", Kind::Read, 50, 61, Answer::read(6, Some(2)));
    assert_eq!(rules(&history), [Rule::Disagreement]);
}

#[test]
fn a_conditional_write_over_something_else_is_caught() {
    let mut history = one_write();
    history.record(2, "x", write(2), 30, 40, Answer::written(6));
    history.record(3, "x", Kind::WriteIf { value: Some(3), expected: 5 }, 41, 50, Answer::written(7));
    assert_eq!(rules(&history), [Rule::LostUpdate]);
    let mut history = one_write();
    history.record(3, "x", Kind::WriteIf { value: Some(3), expected: 9 }, 41, 50, Answer::written(7));
    assert_eq!(rules(&history), [Rule::LostUpdate], "of something that it cannot have read");
}

#[test]
fn without_indices_an_order_is_searched() {
    let answered = |value| Answer::Ok { index: None, value };
    let mut history = Registers::new();
    history.record(1, "x", write(1), 0, 50, answered(None));
    history.record(2, "x", write(2), 0, 50, answered(None));
    history.record(3, "x", Kind::Read, 10, 20, answered(Some(2)));
    history.record(3, "x", Kind::Read, 21, 30, answered(Some(1)));
    assert!(has_order(&history));
    history.record(4, "x", Kind::Read, 31, 40, answered(Some(2)));
    let found = linearize::check(&history, 100_000);
    assert_eq!(found[0].rule, Rule::NotLinearizable);
    assert!(found[0].operations[0].contains("31..40"), "{}", found[0]);
}

#[test]
fn a_search_that_takes_too_long_is_not_taken_for_a_pass() {
    let mut history = Registers::new();
    for client in 0..20 {
        history.record(client, "x", write(client), 0, 50, Answer::Ok { index: None, value: None });
    }
    history.record(30, "x", Kind::Read, 60, 70, Answer::Ok { index: None, value: None });
    assert_eq!(linearize::check(&history, 1_000)[0].rule, Rule::Inconclusive);
}
