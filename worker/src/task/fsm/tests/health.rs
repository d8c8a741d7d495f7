//! Tasks with a health check, and the way out of the routing.

use coracle_model::health::{HealthCheck, HealthResult};
use coracle_model::task::{Health, HealthState};

use super::*;

/// Every second, unhealthy after two failures.
pub(super) fn check() -> HealthCheck {
    HealthCheck { interval: SECOND, retries: 2, ..HealthCheck::of(vec!["probe".into()]) }
}

pub(super) fn checked(code: Option<i32>) -> Input {
    Input::Checked(HealthResult { code, output: format!("said {code:?}"), ..HealthResult::default() })
}

fn run_check() -> Action {
    Action::Check { command: vec!["probe".into()], timeout: 30 * SECOND }
}

fn started(setup: Setup) -> Machine {
    let inputs = vec![
        Input::Begin(Reality::Absent),
        Input::Fetched(Ok(())),
        Input::Created(Ok(Some(check()))),
        Input::Started(Ok(7)),
    ];
    driven(setup, inputs)
}

fn healthy(setup: Setup) -> Machine {
    let mut machine = started(setup);
    machine.step(at(2), Input::Timer);
    machine.step(at(2), checked(Some(0)));
    assert_eq!(machine.status().state, TaskState::Running);
    machine
}

fn health_of(machine: &Machine) -> (HealthState, u32) {
    machine.status().health.as_ref().map(|health| (health.state, health.failures)).unwrap()
}

#[test]
fn a_task_with_a_check_runs_from_its_first_success_on() {
    let inputs =
        vec![Input::Begin(Reality::Absent), Input::Fetched(Ok(())), Input::Created(Ok(Some(check())))];
    let mut machine = driven(setup(DesiredState::Running), inputs);
    let mut go = |input, state: TaskState, actions: &[Action]| {
        assert_eq!(machine.step(at(1), input), actions);
        assert_eq!((machine.status().state, machine.status().pid), (state, 7));
    };
    let report = || Action::Report;
    go(Input::Started(Ok(7)), TaskState::Starting, &[report(), Action::Watch, Action::Timer(SECOND)]);
    go(Input::Timer, TaskState::Starting, &[run_check()]);
    go(checked(Some(1)), TaskState::Starting, &[report(), Action::Timer(SECOND)]);
    go(Input::Timer, TaskState::Starting, &[run_check()]);
    go(checked(Some(0)), TaskState::Running, &[report(), Action::Timer(SECOND)]);
    // Successes are no news.
    go(Input::Timer, TaskState::Running, &[run_check()]);
    go(checked(Some(0)), TaskState::Running, &[Action::Timer(SECOND)]);
    go(checked(None), TaskState::Running, &[report(), Action::Timer(SECOND)]);
    assert_eq!(health_of(&machine), (HealthState::Healthy, 1));
}

#[test]
fn an_unhealthy_task_is_stopped_and_fails_with_the_last_output() {
    for machine in [started(setup(DesiredState::Running)), healthy(setup(DesiredState::Running))] {
        let mut machine = machine;
        machine.step(at(3), checked(Some(1)));
        let actions = machine.step(at(4), checked(Some(5)));
        let stop = [Action::Report, Action::CancelCheck, Action::Timer(10 * SECOND), Action::Signal];
        assert_eq!(actions, stop);
        assert_eq!(health_of(&machine), (HealthState::Unhealthy, 2));
        // An end with status zero is a failure all the same.
        let actions = machine.step(at(5), Input::Exited(Exit::Code(0)));
        assert_eq!(actions, [Action::Report, Action::CancelTimer]);
        let status = machine.status();
        assert_eq!((status.state, status.exit), (TaskState::Failed, Some(Exit::Code(0))));
        assert_eq!(status.error, "unhealthy: said Some(5)");
        assert_eq!(status.health.as_ref().unwrap().results.last().unwrap().code, Some(5));
    }
}

#[test]
fn an_end_or_a_stop_ends_the_checks() {
    let mut machine = healthy(setup(DesiredState::Running));
    let actions = machine.step(at(5), Input::Exited(Exit::Code(3)));
    assert_eq!(actions, [Action::Report, Action::CancelTimer, Action::CancelCheck]);
    assert_eq!(machine.status().error, "exit status 3");
    let mut machine = started(setup(DesiredState::Running));
    let actions = machine.step(at(5), Input::Desired(DesiredState::Shutdown));
    assert_eq!(actions, [Action::Report, Action::CancelCheck, Action::Timer(10 * SECOND), Action::Signal]);
    assert_eq!(machine.step(at(6), checked(Some(1))), []);
    machine.step(at(7), Input::Exited(Exit::Signal(15)));
    assert_eq!(machine.status().state, TaskState::Shutdown);
}

/// What the journal holds is all that the next agent knows.
fn another_agent(before: &Machine, reality: Reality) -> (Machine, Vec<Action>) {
    let mut machine = Machine::new(Setup { status: before.status().clone(), ..setup(DesiredState::Running) });
    machine.is_checked_by(Some(check()));
    let actions = machine.step(at(60), Input::Begin(reality));
    (machine, actions)
}

#[test]
fn another_agent_goes_on_with_what_was_found() {
    let running = || Reality::Running { pid: 7 };
    let before = healthy(setup(DesiredState::Running));
    let (mut machine, actions) = another_agent(&before, running());
    assert_eq!(actions, [Action::Watch, Action::Timer(SECOND)], "nothing to tell");
    assert_eq!((machine.status(), health_of(&machine)), (before.status(), (HealthState::Healthy, 0)));
    machine.step(at(61), checked(Some(1)));
    assert_eq!(health_of(&machine), (HealthState::Healthy, 1));
    // One more failure is enough, also if yet another agent sees it.
    let (mut machine, _) = another_agent(&machine, running());
    assert_eq!(machine.step(at(62), checked(Some(1))).last(), Some(&Action::Signal));
    // And what was being stopped for it is stopped, and has failed for it.
    let (_, actions) = another_agent(&machine, running());
    assert_eq!(actions.last(), Some(&Action::Signal));
    let (ended, _) = another_agent(&machine, Reality::Ended { exit: Exit::Signal(15) });
    assert_eq!(ended.status().error, "unhealthy: said Some(1)");
    // One that had not succeeded yet is still starting.
    let before = started(setup(DesiredState::Running));
    let (mut machine, actions) = another_agent(&before, running());
    assert_eq!(actions, [Action::Watch, Action::Timer(SECOND)]);
    assert_eq!(machine.status().state, TaskState::Starting);
    machine.step(at(62), checked(Some(0)));
    assert_eq!(machine.status().state, TaskState::Running);
}

#[test]
fn a_program_that_ended_before_anybody_saw_it_run_is_starting_until_then() {
    let inputs = vec![
        Input::Begin(Reality::Absent),
        Input::Fetched(Ok(())),
        Input::Created(Ok(Some(check()))),
        Input::Started(Ok(0)),
    ];
    let mut machine = driven(setup(DesiredState::Running), inputs);
    assert_eq!(health_of(&machine), (HealthState::Starting, 0));
    machine.step(at(2), Input::Exited(Exit::Code(0)));
    assert_eq!(machine.status().state, TaskState::Complete);
}

#[test]
fn without_managers_an_unhealthy_task_is_started_again_and_checked_anew() {
    let mut machine = healthy(setup(DesiredState::Running));
    machine.step(at(3), Input::Offline(true));
    machine.step(at(3), checked(Some(1)));
    machine.step(at(4), checked(Some(1)));
    let actions = machine.step(at(5), Input::Exited(Exit::Signal(9)));
    assert_eq!(actions.last(), Some(&Action::Timer(5 * SECOND)));
    // Managers that return in time hear why it ended.
    let mut told = driven(Setup { status: machine.status().clone(), ..setup(DesiredState::Running) }, vec![]);
    told.phase = Phase::Waiting { exit: Exit::Signal(9) };
    told.step(at(6), Input::Offline(false));
    assert_eq!(told.status().error, "unhealthy: said Some(1)");
    machine.step(at(10), Input::Timer);
    machine.step(at(10), Input::Created(Ok(Some(check()))));
    machine.step(at(10), Input::Started(Ok(8)));
    // It was running for the managers, so it is not starting again.
    assert_eq!((machine.status().state, machine.status().local_restarts), (TaskState::Running, 1));
    assert_eq!(health_of(&machine), (HealthState::Starting, 0));
    machine.step(at(11), Input::Timer);
    machine.step(at(11), checked(Some(0)));
    assert_eq!(health_of(&machine), (HealthState::Healthy, 0));
}

#[test]
fn what_serves_leaves_the_routing_before_it_is_asked_to_stop() {
    let delayed = || Setup { pre_stop_delay: 4 * SECOND, ..setup(DesiredState::Running) };
    let mut machine = healthy(delayed());
    let actions = machine.step(at(5), Input::Desired(DesiredState::Shutdown));
    assert_eq!(actions, [Action::Report, Action::CancelCheck, Action::Timer(4 * SECOND)]);
    assert_eq!(machine.status().message, "leaves the routing, is asked to stop after 4s");
    let actions = machine.step(at(9), Input::Timer);
    assert_eq!(actions, [Action::Report, Action::Timer(10 * SECOND), Action::Signal]);
    machine.step(at(10), Input::Exited(Exit::Signal(15)));
    assert_eq!(machine.status().state, TaskState::Shutdown);
    // An end in between is the end.
    let mut machine = healthy(delayed());
    machine.step(at(5), Input::Desired(DesiredState::Shutdown));
    assert_eq!(machine.step(at(6), Input::Exited(Exit::Code(0))), [Action::Report, Action::CancelTimer]);
    assert_eq!(machine.status().state, TaskState::Shutdown);
    // What does not serve yet, or no more, is asked at once.
    let mut machine = started(delayed());
    let actions = machine.step(at(5), Input::Desired(DesiredState::Shutdown));
    assert_eq!(actions.last(), Some(&Action::Signal));
    let mut machine = healthy(delayed());
    machine.step(at(5), checked(None));
    assert_eq!(machine.step(at(6), checked(None)).last(), Some(&Action::Signal));
}

#[test]
fn managers_are_told_no_more_than_the_last_results() {
    let mut machine = healthy(setup(DesiredState::Running));
    for code in [1, 0, 1, 0, 1, 0] {
        machine.step(at(5), checked(Some(code)));
    }
    let Some(Health { results, .. }) = &machine.status().health else { panic!("no health") };
    assert_eq!(results.len(), 5);
}
