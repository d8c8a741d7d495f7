use std::collections::BTreeMap;

use coracle_model::id::{ServiceId, TaskId};
use coracle_model::job::Concurrency;

use super::{Checked, Moved};
use crate::agent::Agent;
use crate::world::World;

/// On nodes that are not down, a slot has at most one process (two where its service's order is start-first), whatever the managers believe and whether or not they
/// still have a record of it.
pub(crate) fn check<'a>(world: &World, agents: impl Iterator<Item = &'a Agent>, moved: &Moved) -> Checked {
    let mut running: BTreeMap<_, Vec<TaskId>> = BTreeMap::new();
    for agent in agents.filter(|agent| !world.state.is_node_lost(agent.node)) {
        for (task, local) in agent.processes() {
            if may_overlap(world, local.told.service) {
                continue;
            }
            let beside = running.entry((local.told.service, local.told.slot)).or_default();
            beside.push(task);
            let most = super::one_task_per_slot::most(world, local.told.service);
            if beside.len() > most && !moved.explain(beside) {
                let names: Vec<_> = beside.iter().map(|task| world.task_name(*task)).collect();
                return Err(format!("{} run at the same time", names.join(" and ")));
            }
        }
    }
    Ok(())
}

/// Runs of a job that its operator lets overlap.
fn may_overlap(world: &World, service: ServiceId) -> bool {
    let schedule = world.state.service(service).and_then(|service| service.spec.job.schedule.as_ref());
    schedule.is_some_and(|schedule| schedule.concurrency == Concurrency::Allow)
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
        job: false,
    };
    let mut agents: Vec<Agent> = world.nodes.values().map(|node| Agent::new(*node, 0)).collect();
    agents[0].tasks.insert(task.id, Local::running(told));
    assert_eq!(check(&world, agents.iter(), &Moved::default()), Ok(()));
    // Of a task that the managers have forgotten.
    agents[1].tasks.insert(TaskId::from_bits(99), Local::running(told));
    assert!(check(&world, agents.iter(), &Moved::default()).is_err());
    world.set_node_state(agents[1].node, NodeState::Down);
    assert_eq!(check(&world, agents.iter(), &Moved::default()), Ok(()));
    assert_eq!(task.status.state, TaskState::Running);
}
