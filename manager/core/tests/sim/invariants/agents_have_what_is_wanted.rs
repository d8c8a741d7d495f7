use std::collections::{BTreeMap, BTreeSet};

use coracle_manager_core::State;
use coracle_model::id::{NodeId, TaskId};
use coracle_model::task::DesiredState;

use super::Checked;
use crate::agent::Agent;

/// At rest, the processes on nodes of the cluster are exactly those of the tasks that are wanted running and have not ended.
pub(crate) fn check(state: &State, agents: &BTreeMap<NodeId, Agent>) -> Checked {
    let wanted: BTreeSet<(NodeId, TaskId)> = state
        .tasks()
        .filter(|task| task.is_live() && task.desired == DesiredState::Running)
        .filter_map(|task| Some((task.node?, task.id)))
        .collect();
    let there: BTreeSet<(NodeId, TaskId)> = agents
        .values()
        .filter(|agent| state.node(agent.node).is_some())
        .flat_map(|agent| agent.processes().map(|(task, _)| (agent.node, task)))
        .collect();
    if wanted == there {
        return Ok(());
    }
    let (missing, spare) = (wanted.difference(&there), there.difference(&wanted));
    Err(format!(
        "missing on nodes: {:?}; running unwanted: {:?}",
        missing.collect::<Vec<_>>(),
        spare.collect::<Vec<_>>()
    ))
}

#[test]
fn it_sees_processes_that_are_missing() {
    let world = super::forge::running();
    let agents = world.nodes.values().map(|node| (*node, Agent::new(*node, 0))).collect();
    assert!(check(&world.state, &agents).unwrap_err().contains("missing"));
    assert_eq!(check(&State::default(), &agents), Ok(()));
}
