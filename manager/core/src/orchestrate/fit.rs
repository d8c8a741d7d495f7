//! Whether a node suits the tasks of a service, as far as its own condition goes; room is for the scheduler.

use coracle_model::id::NodeId;
use coracle_model::node::Node;
use coracle_model::service::{Placement, TaskSpec};

use crate::state::State;

/// Whether all constraints hold on the node.
pub(crate) fn constraints_admit(placement: &Placement, node: &Node) -> bool {
    placement.constraints.iter().all(|constraint| constraint.admits(node))
}

/// Whether a task that is on the node may stay there.
pub(super) fn keeps(state: &State, spec: &TaskSpec, node: NodeId) -> bool {
    state.node(node).is_some_and(|node| node.keeps_tasks() && constraints_admit(&spec.placement, node))
}

/// Whether a global service wants a task on the node.
pub(crate) fn takes_global_task(spec: &TaskSpec, node: &Node) -> bool {
    node.takes_new_tasks() && constraints_admit(&spec.placement, node)
}
