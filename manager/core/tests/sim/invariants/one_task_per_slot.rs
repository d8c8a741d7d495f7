use std::collections::BTreeMap;

use coracle_model::id::ServiceId;
use coracle_model::rollout::Order;

use super::Checked;
use crate::world::World;

/// A slot has at most one live task, or two where a service's order is start-first.
pub(crate) fn check(world: &World) -> Checked {
    let mut held: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for task in world.state.tasks().filter(|task| task.is_live()) {
        let holders = held.entry((task.service, task.slot)).or_default();
        holders.push(world.task_name(task.id));
        if holders.len() > most(world, task.service) {
            return Err(format!("{} hold one slot", holders.join(" and ")));
        }
    }
    Ok(())
}

/// Tasks that a slot may have at a time.
pub(super) fn most(world: &World, service: ServiceId) -> usize {
    let start_first = world.state.service(service).is_some_and(|service| {
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
    assert_eq!(check(&world), Ok(()));
    let twice = with_task(&world, "web.2", |task| task.slot = Slot::Number(1));
    assert!(check(&world_with(&world, twice)).is_err());
}
