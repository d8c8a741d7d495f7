use coracle_model::restart::RestartCondition;
use proptest::prelude::*;

use super::*;

mod health;

use health::{check, checked};

const SECOND: Duration = Duration::from_secs(1);

fn setup(desired: DesiredState) -> Setup {
    Setup {
        desired,
        status: TaskStatus { state: TaskState::Accepted, ..TaskStatus::default() },
        acknowledged: false,
        history: History::default(),
        restart: RestartPolicy { delay: 5 * SECOND, ..RestartPolicy::default() },
        stop_grace: 10 * SECOND,
        pre_stop_delay: Duration::ZERO,
    }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_secs(seconds)
}

/// A machine and the inputs that brought it somewhere.
fn driven(setup: Setup, inputs: Vec<Input>) -> Machine {
    let mut machine = Machine::new(setup);
    for input in inputs {
        machine.step(at(1), input);
    }
    machine
}

fn running() -> Machine {
    let inputs = vec![
        Input::Begin(Reality::Absent),
        Input::Fetched(Ok(())),
        Input::Created(Ok(None)),
        Input::Started(Ok(7)),
    ];
    driven(setup(DesiredState::Running), inputs)
}

#[test]
fn the_straight_way_up_and_down() {
    let mut machine = Machine::new(setup(DesiredState::Ready));
    let mut go = |input, state: TaskState, actions: &[Action]| {
        assert_eq!(machine.step(at(1), input), actions);
        assert_eq!(machine.status().state, state);
    };
    go(Input::Begin(Reality::Absent), TaskState::Preparing, &[Action::Report, Action::Fetch]);
    go(Input::Progress("layer 1 of 2".into()), TaskState::Preparing, &[Action::Report]);
    go(Input::Fetched(Ok(())), TaskState::Preparing, &[Action::Create { leftovers: false }]);
    go(Input::Created(Ok(None)), TaskState::Ready, &[Action::Report]);
    go(Input::Desired(DesiredState::Running), TaskState::Starting, &[Action::Report, Action::Start]);
    go(Input::Started(Ok(7)), TaskState::Running, &[Action::Report, Action::Watch]);
    let stop = [Action::Report, Action::Timer(10 * SECOND), Action::Signal];
    go(Input::Desired(DesiredState::Shutdown), TaskState::Running, &stop);
    go(Input::Timer, TaskState::Running, &[Action::Timer(KILL_AGAIN), Action::Kill]);
    go(Input::Exited(Exit::Signal(9)), TaskState::Shutdown, &[Action::Report, Action::CancelTimer]);
    go(Input::Acknowledged, TaskState::Shutdown, &[Action::Delete]);
    go(Input::Dropped, TaskState::Shutdown, &[Action::Delete, Action::Gone]);
}

#[test]
fn ends_are_told_apart() {
    let cases = [
        (Exit::Code(0), TaskState::Complete, ""),
        (Exit::Code(3), TaskState::Failed, "exit status 3"),
        (Exit::Signal(11), TaskState::Failed, "ended by signal 11"),
        (Exit::OutOfMemory, TaskState::Failed, "killed by the kernel: memory limit reached"),
        (Exit::Unknown, TaskState::Failed, "end was not observed"),
    ];
    for (exit, state, error) in cases {
        let mut machine = running();
        machine.step(at(2), Input::Exited(exit));
        let status = machine.status();
        assert_eq!((status.state, status.error.as_str(), status.exit), (state, error, Some(exit)));
        assert_eq!(status.pid, 0);
    }
}

#[test]
fn what_cannot_be_prepared_is_rejected_and_what_cannot_be_started_failed() {
    let begun = || vec![Input::Begin(Reality::Absent)];
    let with = |more: Vec<Input>| {
        let machine = driven(setup(DesiredState::Running), begun().into_iter().chain(more).collect());
        (machine.status().state, machine.status().error.clone())
    };
    let why = || "because".to_owned();
    assert_eq!(with(vec![Input::Fetched(Err(why()))]), (TaskState::Rejected, why()));
    assert_eq!(with(vec![Input::Fetched(Ok(())), Input::Created(Err(why()))]), (TaskState::Rejected, why()));
    let started = vec![Input::Fetched(Ok(())), Input::Created(Ok(None)), Input::Started(Err(why()))];
    assert_eq!(with(started), (TaskState::Failed, why()));
}

/// As one that waits for its secrets and then does without them, since it is to stop.
#[test]
fn what_cannot_be_made_or_started_while_it_is_stopped_did_not_fail() {
    let stop = || Input::Desired(DesiredState::Shutdown);
    let why = || "because".to_owned();
    let (begin, fetched) = (|| Input::Begin(Reality::Absent), || Input::Fetched(Ok(())));
    for inputs in [
        vec![begin(), fetched(), stop(), Input::Created(Err(why()))],
        vec![begin(), fetched(), Input::Created(Ok(None)), stop(), Input::Started(Err(why()))],
    ] {
        let machine = driven(setup(DesiredState::Running), inputs);
        assert_eq!((machine.status().state, machine.status().error.as_str()), (TaskState::Shutdown, ""));
    }
}

#[test]
fn a_stop_finds_every_phase() {
    let begin = || Input::Begin(Reality::Absent);
    let stop = || Input::Desired(DesiredState::Shutdown);
    // Fetching: given up at once.
    let mut machine = driven(setup(DesiredState::Running), vec![begin()]);
    assert_eq!(machine.step(at(1), stop()), [Action::Report, Action::CancelFetch]);
    assert_eq!(machine.status().state, TaskState::Shutdown);
    // Creating: cannot be given up, so it is deleted when made.
    let mut machine = driven(setup(DesiredState::Running), vec![begin(), Input::Fetched(Ok(()))]);
    assert_eq!(machine.step(at(1), stop()), []);
    assert_eq!(machine.step(at(1), Input::Created(Ok(None))), [Action::Report, Action::Delete]);
    // Starting: stopped as soon as it runs.
    let inputs = vec![begin(), Input::Fetched(Ok(())), Input::Created(Ok(None))];
    let mut machine = driven(setup(DesiredState::Running), inputs);
    assert_eq!(machine.step(at(1), stop()), []);
    let started = machine.step(at(1), Input::Started(Ok(7)));
    assert_eq!(started, [Action::Report, Action::Watch, Action::Timer(10 * SECOND), Action::Signal]);
    // Never begun.
    let machine = driven(setup(DesiredState::Shutdown), vec![begin()]);
    assert_eq!(machine.status().state, TaskState::Shutdown);
}

#[test]
fn a_restarted_agent_leaves_what_runs_alone() {
    let mut before = setup(DesiredState::Running);
    before.status = TaskStatus { state: TaskState::Running, pid: 7, ..TaskStatus::default() };
    let mut machine = Machine::new(before.clone());
    assert_eq!(machine.step(at(9), Input::Begin(Reality::Running { pid: 7 })), [Action::Watch]);
    // And tells of an end that it did not see.
    let mut machine = Machine::new(before.clone());
    assert_eq!(machine.step(at(9), Input::Begin(Reality::Ended { exit: Exit::Code(3) })), [Action::Report]);
    assert_eq!(machine.status().error, "exit status 3");
    // A container that was started and is gone did not run on unseen.
    let mut machine = Machine::new(before);
    machine.step(at(9), Input::Begin(Reality::Absent));
    assert_eq!(machine.status().exit, Some(Exit::Unknown));
}

#[test]
fn an_end_that_nobody_saw_is_no_failure_of_what_was_being_stopped() {
    let lost = [Reality::Absent, Reality::Broken { why: "lost".into() }, Reality::Created];
    for reality in lost {
        let mut before = setup(DesiredState::Shutdown);
        before.status = TaskStatus { state: TaskState::Running, pid: 7, ..TaskStatus::default() };
        let machine = driven(before, vec![Input::Begin(reality.clone())]);
        let status = machine.status();
        assert_eq!((status.state, status.error.as_str()), (TaskState::Shutdown, ""), "{reality:?}");
    }
}

#[test]
fn a_start_that_was_under_way_is_made_by_the_next_agent() {
    for state in [TaskState::Ready, TaskState::Starting, TaskState::Running] {
        let mut before = setup(DesiredState::Running);
        before.status = TaskStatus { state, ..TaskStatus::default() };
        let mut machine = Machine::new(before);
        let actions = machine.step(at(1), Input::Begin(Reality::Created));
        assert!(actions.contains(&Action::Start), "{state}: {actions:?}");
        assert!(!machine.status().state.is_terminal(), "{state}");
    }
}

#[test]
fn why_a_start_failed_is_told_by_the_next_agent() {
    let mut before = setup(DesiredState::Running);
    before.status = TaskStatus { state: TaskState::Starting, ..TaskStatus::default() };
    let why = "exec: /bin/nope: no such file".to_owned();
    let machine = driven(before, vec![Input::Begin(Reality::Broken { why: why.clone() })]);
    assert_eq!((machine.status().state, &machine.status().error), (TaskState::Failed, &why));
}

#[test]
fn what_is_said_not_to_have_started_is_killed() {
    let inputs = vec![Input::Begin(Reality::Absent), Input::Fetched(Ok(())), Input::Created(Ok(None))];
    let mut machine = driven(setup(DesiredState::Running), inputs);
    let actions = machine.step(at(1), Input::Started(Err("no answer".into())));
    assert_eq!(actions, [Action::Report, Action::Kill]);
}

#[test]
fn a_container_that_runs_after_its_end_was_acknowledged_is_killed() {
    let mut before = setup(DesiredState::Running);
    before.status = TaskStatus { state: TaskState::Failed, ..TaskStatus::default() };
    before.acknowledged = true;
    let mut machine = Machine::new(before);
    let actions = machine.step(at(9), Input::Begin(Reality::Running { pid: 7 }));
    assert_eq!(actions, [Action::Watch, Action::Timer(KILL_AGAIN), Action::Kill]);
    assert_eq!(machine.step(at(9), Input::Exited(Exit::Signal(9))), [Action::CancelTimer, Action::Delete]);
    assert_eq!(machine.status().state, TaskState::Failed);
}

#[test]
fn without_managers_a_failed_task_starts_again_and_is_counted() {
    let mut machine = running();
    machine.step(at(10), Input::Exited(Exit::Code(1)));
    assert_eq!(machine.status().state, TaskState::Failed);
    // Two of the five seconds of delay are over when the managers are given up.
    assert_eq!(machine.step(at(12), Input::Offline(true)), [Action::Report, Action::Timer(3 * SECOND)]);
    assert_eq!(machine.status().state, TaskState::Running);
    assert_eq!(machine.step(at(15), Input::Timer), [Action::Report, Action::Create { leftovers: true }]);
    assert_eq!(machine.step(at(15), Input::Created(Ok(None))).last(), Some(&Action::Start));
    machine.step(at(15), Input::Started(Ok(8)));
    let status = machine.status();
    assert_eq!((status.state, status.pid, status.local_restarts), (TaskState::Running, 8, 1));
    // It fails again and starts again, also if this time it cannot be made.
    machine.step(at(20), Input::Exited(Exit::Code(1)));
    assert_eq!(machine.step(at(25), Input::Timer).last(), Some(&Action::Create { leftovers: true }));
    let actions = machine.step(at(25), Input::Created(Err("no space".into())));
    assert_eq!(actions.last(), Some(&Action::Timer(5 * SECOND)));
}

#[test]
fn managers_that_return_hear_of_the_end_and_decide() {
    let mut machine = running();
    machine.step(at(10), Input::Exited(Exit::Code(1)));
    machine.step(at(12), Input::Offline(true));
    assert_eq!(machine.step(at(13), Input::Offline(false)), [Action::Report, Action::CancelTimer]);
    assert_eq!((machine.status().state, machine.status().exit), (TaskState::Failed, Some(Exit::Code(1))));
}

#[test]
fn an_acknowledged_or_forbidden_restart_does_not_happen() {
    let mut machine = running();
    machine.step(at(10), Input::Exited(Exit::Code(1)));
    machine.step(at(10), Input::Acknowledged);
    assert_eq!(machine.step(at(12), Input::Offline(true)), []);
    let mut never = setup(DesiredState::Running);
    never.restart.condition = RestartCondition::None;
    let mut machine = Machine::new(never);
    machine.step(at(1), Input::Begin(Reality::Running { pid: 7 }));
    machine.step(at(10), Input::Exited(Exit::Code(1)));
    assert_eq!(machine.step(at(12), Input::Offline(true)), []);
    assert_eq!(machine.status().state, TaskState::Failed);
}

#[test]
fn a_stop_while_waiting_to_start_again_ends_it() {
    let mut machine = running();
    machine.step(at(10), Input::Exited(Exit::Code(1)));
    machine.step(at(12), Input::Offline(true));
    let actions = machine.step(at(13), Input::Dropped);
    assert_eq!(actions, [Action::Report, Action::CancelTimer, Action::Delete, Action::Gone]);
    assert_eq!(machine.status().state, TaskState::Shutdown);
}

fn inputs() -> impl Strategy<Value = Input> {
    let exit = prop_oneof![Just(Exit::Code(0)), Just(Exit::Code(1)), Just(Exit::Unknown)];
    let begin = exit.clone().prop_flat_map(|exit| {
        prop_oneof![
            Just(Reality::Absent),
            Just(Reality::Broken { why: String::new() }),
            Just(Reality::Broken { why: "no".to_owned() }),
            Just(Reality::Created),
            Just(Reality::Running { pid: 7 }),
            Just(Reality::Ended { exit }),
        ]
    });
    let result = prop_oneof![Just(Ok(())), Just(Err("no".to_owned()))];
    let desired = prop_oneof![
        Just(DesiredState::Ready),
        Just(DesiredState::Running),
        Just(DesiredState::Shutdown),
        Just(DesiredState::Remove)
    ];
    prop_oneof![
        begin.prop_map(Input::Begin),
        desired.prop_map(Input::Desired),
        any::<bool>().prop_map(Input::Offline),
        Just(Input::Acknowledged),
        result.clone().prop_map(Input::Fetched),
        prop_oneof![Just(Ok(None)), Just(Ok(Some(check()))), Just(Err("no".to_owned()))]
            .prop_map(Input::Created),
        prop_oneof![Just(Some(0)), Just(Some(1)), Just(None)].prop_map(checked),
        result.prop_map(|result| Input::Started(result.map(|()| 7))),
        exit.prop_map(Input::Exited),
        Just(Input::Timer),
        Just(Input::Dropped),
    ]
}

proptest! {
    /// The managers never see a state go back: it falls only from an end that they have not acknowledged, and
    /// only while they cannot be reached.
    #[test]
    fn reported_states_only_rise(inputs in prop::collection::vec(inputs(), 0..60)) {
        let mut machine = Machine::new(setup(DesiredState::Ready));
        let mut acknowledged = false;
        for input in inputs {
            let before = machine.status().state;
            acknowledged |= input == Input::Acknowledged && before.is_terminal();
            machine.step(at(5), input.clone());
            let after = machine.status().state;
            if after < before {
                let ends = matches!(before, TaskState::Complete | TaskState::Failed);
                prop_assert!(ends && after == TaskState::Running && !acknowledged, "{input:?}: {before} to {after}");
                prop_assert!(machine.offline);
            }
        }
    }

    /// Whatever happened before, a dropped task comes to its end by answers to the actions alone.
    #[test]
    fn a_dropped_task_always_leaves(inputs in prop::collection::vec(inputs(), 0..40)) {
        let mut machine = Machine::new(setup(DesiredState::Running));
        machine.step(at(1), Input::Begin(Reality::Absent));
        for input in inputs {
            machine.step(at(1), input);
        }
        machine.step(at(1), Input::Dropped);
        for _ in 0..4 {
            let answer = match machine.phase {
                Phase::Creating => Input::Created(Ok(None)),
                Phase::Starting => Input::Started(Ok(7)),
                Phase::Running | Phase::Leaving | Phase::Stopping => Input::Exited(Exit::Signal(9)),
                _ => Input::Timer,
            };
            machine.step(at(1), answer);
        }
        prop_assert_eq!(machine.phase, Phase::Gone);
    }
}
