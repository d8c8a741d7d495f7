use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use coracle_manager_core::{State, counts};
use coracle_model::id::{NodeId, ServiceId};
use coracle_model::job::Concurrency;
use coracle_model::node::NodeState;
use coracle_model::service::ServiceMode;
use coracle_model::task::{DesiredState, Slot, Task, TaskState};
use coracle_model::time::Timestamp;

use super::Checked;

/// A plan may rest on a view that is so old, by clocks that differ.
const VIEW: Duration = Duration::from_secs(4 + 10);

/// What is counted are slots of the run, each once whatever tasks of it completed, within a run ever more; no more slots are
/// under way than may be, and none that is known to be done.
pub(crate) fn check(before: &State, state: &State) -> Checked {
    for service in state.services().filter(|service| service.job.is_some()) {
        let run = service.job.as_ref().map_or(0, |job| job.run);
        let (was, is) = (counts::service(before, service.id), counts::service(state, service.id));
        let slots = completed(state, service.id, run).len() as u64;
        if is.completed > slots || is.completed > is.total {
            return Err(format!("{} counts {} completions of {slots}", service.spec.name, is.completed));
        }
        let same = before
            .service(service.id)
            .is_some_and(|old| old.spec == service.spec && old.job.as_ref().map(|job| job.run) == Some(run));
        let ended = service.job.as_ref().and_then(|job| job.ended_at);
        let put_away = service.spec.job.schedule.is_some()
            && ended
                .zip(service.spec.job.time_to_live)
                .is_some_and(|(ended, ttl)| ended.after(ttl) <= state.time());
        if same && !put_away && !service.spec.mode.is_per_node() && is.completed < was.completed {
            return Err(format!(
                "{} had {} completions and has {}",
                service.spec.name, was.completed, is.completed
            ));
        }
        at_a_time(state, service.id)?;
        begun_once(before, state, service.id)?;
    }
    Ok(())
}

/// Nothing is begun that was known to be done.
fn begun_once(before: &State, state: &State, service: ServiceId) -> Checked {
    let began = |task: &Task| {
        let wanted = |task: &Task| task.desired == DesiredState::Running;
        wanted(task) && !before.task(task.id).is_some_and(|task| wanted(task))
    };
    for task in state.tasks_of_service(service).filter(|task| began(task)) {
        let mut others = before.tasks_of_slot(service, task.slot).filter(|other| other.run == task.run);
        if others
            .any(|other| other.status.state == TaskState::Complete && other.desired < DesiredState::Remove)
        {
            return Err(format!("slot {} of run {} was done and is begun again", task.slot, task.run));
        }
    }
    Ok(())
}

fn completed(state: &State, service: ServiceId, run: u64) -> BTreeSet<Slot> {
    let tasks = state.tasks_of_service(service).filter(|task| task.run == run);
    tasks.filter(|task| task.status.state == TaskState::Complete).map(|task| task.slot).collect()
}

/// Once settled, nothing is done again that was done, and a run beside the present one goes on or has ended.
pub(crate) fn settled(state: &State) -> Checked {
    for task in state.tasks().filter(|task| task.run > 0 && task.is_live()) {
        if completed(state, task.service, task.run).contains(&task.slot) {
            return Err(format!("slot {} of run {} is done and has a task", task.slot, task.run));
        }
    }
    for service in state.services() {
        let open = service.job.iter().flat_map(|job| &job.earlier).filter(|run| run.ended_at.is_none());
        for run in open {
            let mut tasks = state.tasks_of_service(service.id).filter(|task| task.run == run.run);
            if !tasks.any(|task| task.may_run() || task.is_live()) {
                return Err(format!("run {} of {} goes on without a task", run.run, service.spec.name));
            }
        }
    }
    Ok(())
}

/// No more slots have a task that is wanted, or one that still stops, than may be under way. What stops counts when it has run for
/// longer than a view may be old, on a node that was there: else the plan may not have known that it has to be waited for.
fn at_a_time(state: &State, id: ServiceId) -> Checked {
    let Some(service) = state.service(id) else { return Ok(()) };
    let ServiceMode::ReplicatedJob { concurrent, .. } = service.spec.mode else { return Ok(()) };
    let run = service.job.as_ref().map_or(0, |job| job.run);
    let schedule = service.spec.job.schedule.as_ref();
    let overlap = schedule.is_some_and(|schedule| schedule.concurrency == Concurrency::Allow);
    let for_long = |since: Timestamp| state.time().since(since) > VIEW;
    let was_there = |node: NodeId| {
        let status = state.node(node).map(|node| &node.status);
        status.is_some_and(|status| status.state == NodeState::Ready && for_long(status.since))
    };
    let stops = |task: &Task| {
        let ran = task.running_since.is_some_and(for_long);
        task.may_run() && !task.is_live() && ran && task.node.is_some_and(was_there)
    };
    let counts = |task: &&Arc<Task>| match task.run == run {
        true => task.is_live() || stops(task),
        false => !overlap && stops(task),
    };
    let slots: BTreeSet<Slot> = state.tasks_of_service(id).filter(counts).map(|task| task.slot).collect();
    if concurrent > 0 && slots.len() as u64 > concurrent {
        return Err(format!(
            "{} has {} slots under way, {concurrent} at most",
            service.spec.name,
            slots.len()
        ));
    }
    Ok(())
}

#[test]
fn it_sees_a_count_that_falls_and_what_is_done_again() {
    use super::forge::{forged, with_task};
    use crate::world::{World, build};
    use coracle_manager_core::state::Record;
    use coracle_model::id::TaskId;
    use coracle_model::job::EarlierRun;
    let mut world = World::default();
    world.add_nodes(2);
    let mut spec = build::service_spec("sum", 1);
    spec.mode = ServiceMode::ReplicatedJob { completions: 2, concurrent: 0 };
    world.add_service(spec);
    world.converge();
    for name in ["sum.0", "sum.1"] {
        let task = world.task(name);
        world.report(&task, TaskState::Complete, "");
    }
    let state = &world.state;
    assert_eq!(check(state, state), Ok(()));
    assert_eq!(settled(state), Ok(()));
    let again = with_task(&world, "sum.1", |task| {
        (task.slot, task.status.state) = (Slot::Number(0), TaskState::Running);
    });
    assert!(settled(&again).unwrap_err().contains("is done"));
    let begun = with_task(&world, "sum.1", |task| {
        (task.id, task.slot, task.status.state) =
            (TaskId::from_bits(4711), Slot::Number(0), TaskState::Pending);
    });
    assert!(begun_once(state, &begun, world.services["sum"]).unwrap_err().contains("begun again"));
    let idle = forged(state, |record| match record {
        Record::Service(service) => {
            let mut service = (*service).clone();
            let run = EarlierRun { run: 9, started_at: Timestamp::EPOCH, ended_at: None };
            service.job.as_mut().unwrap().earlier.push(run);
            Record::Service(Arc::new(service))
        }
        other => other,
    });
    assert!(settled(&idle).unwrap_err().contains("run 9 of sum goes on without a task"));
    let fewer = with_task(&world, "sum.1", |task| task.status.state = TaskState::Running);
    assert!(check(state, &fewer).unwrap_err().contains("had 2 completions"));
    let both = with_task(&world, "sum.1", |task| task.status.state = TaskState::Running);
    let both = super::forge::world_with(&world, both);
    let both = with_task(&both, "sum.0", |task| task.status.state = TaskState::Running);
    let one_at_a_time = forged(&both, |record| match record {
        Record::Service(service) => {
            let mut service = (*service).clone();
            service.spec.mode = ServiceMode::ReplicatedJob { completions: 2, concurrent: 1 };
            Record::Service(Arc::new(service))
        }
        other => other,
    });
    assert!(check(&both, &one_at_a_time).unwrap_err().contains("1 at most"));
    // One of them stops, on a node that was there all the time.
    let long_ago = forged(&one_at_a_time, |record| match record {
        Record::Node(node) => {
            let mut node = (*node).clone();
            node.status.since = Timestamp::EPOCH;
            Record::Node(Arc::new(node))
        }
        other => other,
    });
    let long_ago = super::forge::world_with(&world, long_ago);
    let stopping = with_task(&long_ago, "sum.0", |task| {
        (task.desired, task.running_since) = (DesiredState::Shutdown, Some(Timestamp::EPOCH));
    });
    assert!(check(&stopping, &stopping).unwrap_err().contains("1 at most"));
}
