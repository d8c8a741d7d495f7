use coracle_manager_core::State;

use super::Checked;

/// What is wanted of a task never goes back.
pub(crate) fn check(before: &State, after: &State) -> Checked {
    for old in before.tasks() {
        if let Some(new) = after.task(old.id).filter(|new| new.desired < old.desired) {
            return Err(format!("what is wanted of a task went back: {old:?} {new:?}"));
        }
    }
    Ok(())
}

#[test]
fn it_sees_a_task_that_is_wanted_again() {
    use super::forge::{running, with_task};
    use coracle_model::task::DesiredState;
    let world = running();
    let given_up = with_task(&world, "web.1", |task| task.desired = DesiredState::Shutdown);
    assert_eq!(check(&world.state, &given_up), Ok(()));
    assert!(check(&given_up, &world.state).is_err());
}
