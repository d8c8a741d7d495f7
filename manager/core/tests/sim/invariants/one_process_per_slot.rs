use std::collections::BTreeMap;

use super::Checked;
use crate::agent::Agent;
use crate::world::World;

/// On nodes that are not down, a slot has at most one process, whatever the managers believe and whether or not they
/// still have a record of it.
pub(crate) fn check<'a>(world: &World, agents: impl Iterator<Item = &'a Agent>) -> Checked {
    let mut running = BTreeMap::new();
    for agent in agents.filter(|agent| !world.state.is_node_lost(agent.node)) {
        for (task, local) in agent.processes() {
            if let Some((other, node)) =
                running.insert((local.told.service, local.told.slot), (task, agent.node))
            {
                return Err(format!(
                    "{} on {} and {} on {} both run",
                    world.task_name(task),
                    world.node_name(agent.node),
                    world.task_name(other),
                    world.node_name(node)
                ));
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
