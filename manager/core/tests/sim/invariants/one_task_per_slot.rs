use std::collections::BTreeMap;

use coracle_model::id::{ServiceId, TaskId};
use coracle_model::rollout::Order;

use super::{Checked, Moved};
use crate::world::World;

/// A slot has at most one live task, or two where a service's order is start-first.
pub(crate) fn check(world: &World, moved: &Moved) -> Checked {
    let mut held: BTreeMap<_, Vec<TaskId>> = BTreeMap::new();
    for task in world.state.tasks().filter(|task| task.is_live()) {
        let holders = held.entry((task.service, task.slot, task.run)).or_default();
        holders.push(task.id);
        if holders.len() > most(world, task.service) && !moved.explain(holders) {
            let names: Vec<_> = holders.iter().map(|task| world.task_name(*task)).collect();
            return Err(format!("{} hold one slot", names.join(" and ")));
        }
    }
    Ok(())
}

/// Tasks that a slot may have at a time. What the order of a service that was removed was is not known any more.
pub(super) fn most(world: &World, service: ServiceId) -> usize {
    let start_first = world.state.service(service).is_none_or(|service| {
        let configs = [&service.spec.update, &service.spec.rollback];
        let before = service.previous_spec.iter().map(|spec| &spec.update);
        configs.into_iter().chain(before).any(|config| config.order == Order::StartFirst)
    });
    if start_first { 2 } else { 1 }
}

#[test]
fn it_sees_a_slot_that_is_held_twice() {
    use super::forge::{running, with_task, world_with};
    use coracle_model::task::Slot;
    let world = running();
    assert_eq!(check(&world, &Moved::default()), Ok(()));
    let twice = with_task(&world, "web.2", |task| task.slot = Slot::Number(1));
    assert!(check(&world_with(&world, twice), &Moved::default()).is_err());
}
