use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

type Tasks = BTreeMap<u128, (u64, DesiredState)>;

fn wire(bits: u128, version: u64, desired: DesiredState) -> v1::AssignedTask {
    v1::AssignedTask {
        id: TaskId::from_bits(bits).to_string(),
        spec_version: version,
        desired: u32::from(desired.number()),
        ..v1::AssignedTask::default()
    }
}

fn sum(tasks: &Tasks) -> u64 {
    checksum::assignments(tasks.iter().map(|(id, (v, d))| (TaskId::from_bits(*id), Version::new(*v), *d)))
}

fn message(
    complete: bool,
    sequence: u64,
    set: &[(u128, DesiredState)],
    removed: &[u128],
    after: &Tasks,
) -> v1::Assignments {
    v1::Assignments {
        complete,
        sequence,
        set: set.iter().map(|(id, desired)| wire(*id, 1, *desired)).collect(),
        removed: removed.iter().map(|id| TaskId::from_bits(*id).to_string()).collect(),
        checksum: sum(after),
        files: None,
    }
}

fn tasks(entries: &[(u128, DesiredState)]) -> Tasks {
    entries.iter().map(|(id, desired)| (*id, (1, *desired))).collect()
}

const RUNNING: DesiredState = DesiredState::Running;

#[test]
fn a_complete_set_drops_what_it_does_not_name() {
    let mut set = AssignmentSet::default();
    let change = set
        .apply(
            message(true, 1, &[(1, RUNNING)], &[], &tasks(&[(1, RUNNING)])),
            [1, 9].map(TaskId::from_bits).into_iter(),
        )
        .unwrap();
    assert_eq!(change.dropped, [TaskId::from_bits(9)]);
    assert_eq!(change.assigned.len(), 1);
    assert!(change.complete);
}

#[test]
fn messages_that_do_not_fit_are_refused_and_change_nothing() {
    let mut set = AssignmentSet::default();
    let none = || std::iter::empty();
    let early = set.apply(message(false, 2, &[], &[], &tasks(&[])), none());
    assert_eq!(early, Err(OutOfStep::NotComplete(2)));
    set.apply(message(true, 1, &[(1, RUNNING)], &[], &tasks(&[(1, RUNNING)])), none()).unwrap();
    let gap = set.apply(message(false, 3, &[], &[], &tasks(&[(1, RUNNING)])), none());
    assert_eq!(gap, Err(OutOfStep::Gap { got: 3, wanted: 2 }));
    let wrong = set.apply(message(false, 2, &[(2, RUNNING)], &[], &tasks(&[(2, RUNNING)])), none());
    assert!(matches!(wrong, Err(OutOfStep::Checksum { .. })));
    // The refused ones left no trace: the right increment still fits.
    let both = tasks(&[(1, RUNNING), (2, RUNNING)]);
    set.apply(message(false, 2, &[(2, RUNNING)], &[], &both), none()).unwrap();
    set.begin_session();
    let again = set.apply(message(false, 3, &[], &[], &both), none());
    assert_eq!(again, Err(OutOfStep::NotComplete(3)));
}

#[test]
fn unusable_ids_and_states_are_refused_by_name() {
    let mut set = AssignmentSet::default();
    let mut bad = message(true, 1, &[(1, RUNNING)], &[], &tasks(&[(1, RUNNING)]));
    bad.set[0].desired = 7;
    let error = set.apply(bad, std::iter::empty()).unwrap_err().to_string();
    assert!(error.contains("unknown desired state 7"), "{error}");
    let mut bad = message(true, 1, &[(1, RUNNING)], &[], &tasks(&[]));
    bad.set[0].id = "nope".to_owned();
    assert!(matches!(set.apply(bad, std::iter::empty()), Err(OutOfStep::Malformed { .. })));
}

#[test]
fn a_task_that_is_not_understood_says_why() {
    let task = Assignment::from_wire(TaskId::from_bits(1), wire(1, 1, RUNNING));
    assert!(task.spec.unwrap_err().contains("unusable service"));
}

proptest! {
    #[test]
    fn increments_lead_to_the_managers_set(steps in prop::collection::vec(
        (prop::collection::vec((0u128..12, 0usize..3), 0..5), prop::collection::vec(0u128..12, 0..4)), 1..20)) {
        let states = [DesiredState::Ready, RUNNING, DesiredState::Shutdown];
        let mut set = AssignmentSet::default();
        let mut theirs = Tasks::new();
        let mut held: BTreeSet<TaskId> = BTreeSet::new();
        for (at, (changes, removed)) in steps.into_iter().enumerate() {
            let changes: Vec<_> = changes.into_iter().map(|(id, state)| (id, states[state])).collect();
            for (id, desired) in &changes {
                theirs.insert(*id, (1, *desired));
            }
            for id in &removed {
                theirs.remove(id);
            }
            let full: Vec<_> = theirs.iter().map(|(id, (_, desired))| (*id, *desired)).collect();
            let message = if at == 0 {
                message(true, 1, &full, &[], &theirs)
            } else {
                message(false, at as u64 + 1, &changes, &removed, &theirs)
            };
            let change = set.apply(message, held.clone().into_iter()).unwrap();
            held.extend(change.assigned.iter().map(|(id, ..)| *id));
            held.retain(|id| !change.dropped.contains(id));
        }
        prop_assert!(theirs.keys().all(|id| held.contains(&TaskId::from_bits(*id))));
    }
}
