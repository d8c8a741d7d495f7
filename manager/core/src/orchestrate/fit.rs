//! Whether a node suits the tasks of a service, as far as its own condition goes; room is for the scheduler.

use coracle_model::id::NodeId;
use coracle_model::node::{Availability, Node, NodeState};
use coracle_model::service::{Placement, Service, TaskSpec};
use coracle_model::task::Task;
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
    /// The service wants the node no longer: it goes when its turn comes.
    Excluded,
    /// It may not stay.
    Leaves,
}

/// How a task that has a node stands with it; nothing for one that has none.
pub(super) fn standing(state: &State, service: &Service, task: &Task, now: Timestamp) -> Option<Standing> {
    let Some(node) = state.node(task.node?) else { return Some(Standing::Leaves) };
    let admitted = constraints_admit(&service.spec.task.placement, node);
    if !admitted && !is_excluded_by_update(state, service, task, node) {
        return Some(Standing::Leaves);
    }
    let drained = node.spec.availability == Availability::Drain;
    if node.status.state == NodeState::Down {
        // Whoever drains a node that is down says that it is lost, or may be replaced: there is nothing to wait for. Neither is
        // there when it is wanted no more.
        if drained || !admitted {
            return Some(Standing::Leaves);
        }
        let until = service.spec.node_down_delay.map(|delay| node.status.since.after(delay));
        return Some(until.filter(|until| *until > now).map_or(Standing::Leaves, Standing::AwaitedUntil));
    }
    Some(match (drained, admitted) {
        (true, _) => Standing::Draining,
        (false, false) => Standing::Excluded,
        (false, true) => Standing::Keeps,
    })
}

/// Whether a task is on a node that does not suit because the service was changed, not the node: what it was made of admits the
/// node still. Once an update is through, whatever does not suit is so because of a node. A job that runs by the clock goes on
/// with what it began.
fn is_excluded_by_update(state: &State, service: &Service, task: &Task, node: &Node) -> bool {
    let updating =
        service.update.as_ref().is_some_and(|update| update.state.is_active() || update.state.is_paused());
    let made_of = state.task_spec(service.id, task.spec_version);
    (updating || service.spec.mode.is_job())
        && made_of.is_some_and(|spec| constraints_admit(&spec.placement, node))
}

/// Whether a task that is on the node may stay there.
pub(super) fn keeps(state: &State, spec: &TaskSpec, node: NodeId) -> bool {
    state.node(node).is_some_and(|node| node.keeps_tasks() && constraints_admit(&spec.placement, node))
}

/// Whether a global service wants a task on the node.
pub(crate) fn takes_global_task(spec: &TaskSpec, node: &Node) -> bool {
    node.takes_new_tasks() && constraints_admit(&spec.placement, node)
}
