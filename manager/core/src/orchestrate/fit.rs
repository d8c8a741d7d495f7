//! Whether a node suits the tasks of a service, as far as its own condition goes; room is for the scheduler.

use coracle_model::id::NodeId;
use coracle_model::node::{Availability, Node, NodeState};
use coracle_model::service::{Placement, Service, TaskSpec};
use coracle_model::time::Timestamp;

use crate::state::State;

/// Whether all constraints hold on the node.
pub(crate) fn constraints_admit(placement: &Placement, node: &Node) -> bool {
    placement.constraints.iter().all(|constraint| constraint.admits(node))
}

/// How a task stands with its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It may stay.
    Keeps,
    /// The node is being drained: it goes, in the service's order.
    Draining,
    /// The node is gone; the service waits for it until then.
    AwaitedUntil(Timestamp),
    /// It may not stay.
    Leaves,
}

/// How a task that is on the node stands with it.
pub(super) fn standing(state: &State, service: &Service, node: NodeId, now: Timestamp) -> Standing {
    let Some(node) = state.node(node) else { return Standing::Leaves };
    if !constraints_admit(&service.spec.task.placement, node) {
        return Standing::Leaves;
    }
    let drained = node.spec.availability == Availability::Drain;
    if node.status.state == NodeState::Down {
        // Whoever drains a node that is down says that it is lost, or may be replaced: there is nothing to wait for.
        if drained {
            return Standing::Leaves;
        }
        let until = service.spec.node_down_delay.map(|delay| node.status.since.after(delay));
        return until.filter(|until| *until > now).map_or(Standing::Leaves, Standing::AwaitedUntil);
    }
    if drained { Standing::Draining } else { Standing::Keeps }
}

/// Whether a task that is on the node may stay there.
pub(super) fn keeps(state: &State, spec: &TaskSpec, node: NodeId) -> bool {
    state.node(node).is_some_and(|node| node.keeps_tasks() && constraints_admit(&spec.placement, node))
}

/// Whether a global service wants a task on the node.
pub(crate) fn takes_global_task(spec: &TaskSpec, node: &Node) -> bool {
    node.takes_new_tasks() && constraints_admit(&spec.placement, node)
}
