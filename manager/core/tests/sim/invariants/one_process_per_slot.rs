use std::collections::BTreeMap;

use super::Checked;
use crate::agent::Agent;
use crate::world::World;

/// On nodes that are not down, a slot has at most one process (two where its service's order is start-first), whatever the managers believe and whether or not they
/// still have a record of it.
pub(crate) fn check<'a>(world: &World, agents: impl Iterator<Item = &'a Agent>) -> Checked {
    let mut running: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for agent in agents.filter(|agent| !world.state.is_node_lost(agent.node)) {
        for (task, local) in agent.processes() {
            let beside = running.entry((local.told.service, local.told.slot)).or_default();
            beside.push(format!("{} on {}", world.task_name(task), world.node_name(agent.node)));
            if beside.len() > super::one_task_per_slot::most(world, local.told.service) {
                return Err(format!("{} run at the same time", beside.join(" and ")));
            }
        }
    }
    Ok(())
}

#[test]
fn it_sees_two_processes_but_not_those_on_nodes_that_are_down() {
    use super::forge::running;
    use crate::agent::{Local, Told};
    use coracle_model::node::NodeState;
    use coracle_model::task::TaskState;
    let mut world = running();
    let task = world.task("web.1");
    let told = Told {
        service: task.service,
        slot: task.slot,
        spec_version: task.spec_version,
        desired: task.desired,
    };
    let mut agents: Vec<Agent> = world.nodes.values().map(|node| Agent::new(*node, 0)).collect();
    agents[0].tasks.insert(task.id, Local::running(told));
    assert_eq!(check(&world, agents.iter()), Ok(()));
    // Of a task that the managers have forgotten.
    agents[1].tasks.insert(coracle_model::id::TaskId::from_bits(99), Local::running(told));
    assert!(check(&world, agents.iter()).is_err());
    world.set_node_state(agents[1].node, NodeState::Down);
    assert_eq!(check(&world, agents.iter()), Ok(()));
    assert_eq!(task.status.state, TaskState::Running);
}
