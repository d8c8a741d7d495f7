use std::collections::BTreeMap;

use crate::agent::Agent;
use crate::world::World;

/// On nodes that are not down, a slot has at most one process, whatever the managers believe.
pub(crate) fn check<'a>(world: &World, agents: impl Iterator<Item = &'a Agent>) {
    let mut running = BTreeMap::new();
    for agent in agents.filter(|agent| !world.state.is_node_lost(agent.node)) {
        for task in agent.processes().filter_map(|id| world.state.task(id)) {
            if let Some(other) = running.insert((task.service, task.slot), task.id) {
                panic!("{} and {} both run", world.task_name(task.id), world.task_name(other));
            }
        }
    }
}
