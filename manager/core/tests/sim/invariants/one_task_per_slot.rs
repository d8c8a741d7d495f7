use std::collections::BTreeMap;

use super::Checked;
use crate::world::World;

/// A slot has at most one live task.
pub(crate) fn check(world: &World) -> Checked {
    let mut held = BTreeMap::new();
    for task in world.state.tasks().filter(|task| task.is_live()) {
        if let Some(other) = held.insert((task.service, task.slot), task.id) {
            return Err(format!("{} and {} hold one slot", world.task_name(task.id), world.task_name(other)));
        }
    }
    Ok(())
}

#[test]
fn it_sees_a_slot_that_is_held_twice() {
    use super::forge::{running, with_task, world_with};
    use coracle_model::task::Slot;
    let world = running();
    assert_eq!(check(&world), Ok(()));
    let twice = with_task(&world, "web.2", |task| task.slot = Slot::Number(1));
    assert!(check(&world_with(&world, twice)).is_err());
}
