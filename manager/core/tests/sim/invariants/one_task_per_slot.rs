use std::collections::BTreeMap;

use crate::world::World;

/// A slot has at most one live task.
pub(crate) fn check(world: &World) {
    let mut held = BTreeMap::new();
    for task in world.state.tasks().filter(|task| task.is_live()) {
        if let Some(other) = held.insert((task.service, task.slot), task.id) {
            panic!("{} and {} hold one slot", world.task_name(task.id), world.task_name(other));
        }
    }
}
