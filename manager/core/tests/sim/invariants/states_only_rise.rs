use coracle_manager_core::State;

use super::Checked;

/// How far a task is never goes back, and a task never moves.
pub(crate) fn check(before: &State, after: &State) -> Checked {
    for old in before.tasks() {
        let Some(new) = after.task(old.id) else { continue };
        if new.status.state < old.status.state {
            return Err(format!("a task's state went back: {old:?} {new:?}"));
        }
        if old.node.is_some() && new.node != old.node {
            return Err(format!("a task moved: {old:?} {new:?}"));
        }
        if (old.slot, old.service, old.spec_version) != (new.slot, new.service, new.spec_version) {
            return Err(format!("a task became another: {old:?} {new:?}"));
        }
    }
    Ok(())
}

#[test]
fn it_sees_a_state_that_goes_back_and_a_task_that_moves() {
    use super::forge::{running, with_task};
    use coracle_model::id::NodeId;
    use coracle_model::task::TaskState;
    let world = running();
    assert_eq!(check(&world.state, &world.state), Ok(()));
    let back = with_task(&world, "web.1", |task| task.status.state = TaskState::Ready);
    assert!(check(&world.state, &back).unwrap_err().contains("went back"));
    let moved = with_task(&world, "web.1", |task| task.node = Some(NodeId::from_bits(77)));
    assert!(check(&world.state, &moved).unwrap_err().contains("moved"));
}
