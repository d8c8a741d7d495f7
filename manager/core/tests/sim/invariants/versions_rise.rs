use coracle_manager_core::State;
use coracle_model::version::Version;

use super::Checked;

/// Index and cluster time rise, and no object has a version of the past or the future.
pub(crate) fn check(before: &State, after: &State) -> Checked {
    if after.index() < before.index() || after.time() < before.time() {
        return Err(format!(
            "index or time went back: {} {:?}, then {} {:?}",
            before.index(),
            before.time(),
            after.index(),
            after.time()
        ));
    }
    let nodes = after
        .nodes()
        .map(|new| ("node", new.id.to_string(), before.node(new.id).map(|old| old.version), new.version));
    let services = after.services().map(|new| {
        ("service", new.id.to_string(), before.service(new.id).map(|old| old.version), new.version)
    });
    let tasks = after
        .tasks()
        .map(|new| ("task", new.id.to_string(), before.task(new.id).map(|old| old.version), new.version));
    for (kind, id, old, new) in nodes.chain(services).chain(tasks) {
        if old.is_some_and(|old| new < old) || new > Version::new(after.index()) {
            return Err(format!("{kind} {id}: version {old:?}, then {new:?} at index {}", after.index()));
        }
        // What is new was written since.
        if old.is_none() && new <= Version::new(before.index()) {
            return Err(format!("{kind} {id} is new and has version {new:?} of the past"));
        }
    }
    let changed = after
        .tasks()
        .find(|new| before.task(new.id).is_some_and(|old| old != *new && old.version == new.version));
    match changed {
        Some(task) => Err(format!("task {} changed and kept its version", task.id)),
        None => Ok(()),
    }
}

#[test]
fn it_sees_versions_that_stand_still_go_back_or_run_ahead() {
    use super::forge::{running, with_task};
    let world = running();
    let (state, task) = (&world.state, "web.1");
    assert_eq!(check(state, state), Ok(()));
    let ahead = with_task(&world, task, |task| task.version = Version::new(1_000_000));
    assert!(check(state, &ahead).is_err());
    let back = with_task(&world, task, |task| task.version = Version::new(1));
    assert!(check(state, &back).is_err());
    let unnoticed = with_task(&world, task, |task| task.status.message = "changed".to_owned());
    assert!(check(state, &unnoticed).unwrap_err().contains("kept its version"));
    assert!(check(state, &State::default()).unwrap_err().contains("went back"));
}
