use std::collections::BTreeMap;

use coracle_manager_core::State;
use coracle_model::id::ServiceId;
use coracle_model::task::{DesiredState, Slot, Task, TaskState};

use super::Checked;

/// Once settled, a slot keeps no more ended tasks than the limit or its attempts ask for, and of removed services
/// and slots nothing is kept that runs nowhere.
pub(crate) fn check(state: &State) -> Checked {
    // Runs of a job are kept for as many as its schedule says.
    let mut ended: BTreeMap<(ServiceId, Slot, u64), usize> = BTreeMap::new();
    // Several nodes that were lost may have done the same work; that it is done is never forgotten.
    let is_done = |task: &Task| task.run > 0 && task.status.state == TaskState::Complete;
    for task in state.tasks().filter(|task| !task.may_run()) {
        if task.desired == DesiredState::Remove {
            return Err(format!("task {} is to be removed and runs nowhere, but is kept", task.id));
        }
        if task.status.state.is_terminal() && !is_done(task) {
            *ended.entry((task.service, task.slot, task.run)).or_default() += 1;
        }
    }
    let limit = usize::try_from(state.cluster_spec().task_history_limit).ok();
    for ((service, slot, _), count) in ended {
        let Some(service) = state.service(service) else {
            return Err(format!("slot {slot} of a removed service keeps {count} tasks"));
        };
        let attempts = usize::try_from(service.spec.task.restart.max_attempts).unwrap();
        // The last end tells whether the slot is filled again; an update needs the predecessor. What was stopped is no attempt.
        let newest = state.tasks_of_slot(service.id, slot).max_by_key(|task| (task.created_at, task.id));
        let stopped = newest.is_some_and(|task| task.status.state == TaskState::Shutdown);
        let kept = if attempts > 0 { Some(attempts + 1 + usize::from(stopped)) } else { limit };
        if kept.is_some_and(|kept| count > kept.max(2)) {
            return Err(format!(
                "slot {slot} of {} keeps {count} tasks, {kept:?} at most",
                service.spec.name
            ));
        }
    }
    Ok(())
}

#[test]
fn it_sees_history_that_nobody_reaps() {
    use super::forge::running;
    use crate::world::Key;
    use std::time::Duration;
    let mut world = running();
    world.set_history(1);
    for _ in 0..4 {
        let task = world.task("web.1");
        world.report(&task, TaskState::Failed, "");
        // Everybody but the reaper.
        for _ in 0..6 {
            for key in world.keys().into_iter().filter(|key| !matches!(key, Key::Reap(_))) {
                let plan = world.plan(key);
                plan.into_batches(100).into_iter().for_each(|batch| world.write(batch));
            }
            world.agents_obey();
            world.tick(Duration::from_secs(5));
        }
    }
    assert!(check(&world.state).unwrap_err().contains("keeps"));
    world.settle();
    assert_eq!(check(&world.state), Ok(()));
}
