//! What keeps a node from having a task. The order is that in which operators can do something about it.

use coracle_model::constraint::normal_architecture;
use coracle_model::node::{Availability, Node, NodeState, Platform};

use super::group::Group;
use super::room::Room;
use crate::orchestrate::constraints_admit;

/// What keeps a node from having a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Obstacle {
    NotReady,
    Paused,
    Drained,
    Cpu,
    Memory,
    Constraint,
    Platform,
    MaxReplicas,
}

impl Obstacle {
    /// The words in `service ps`.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::NotReady => "not ready",
            Self::Paused => "paused",
            Self::Drained => "drained",
            Self::Cpu => "not enough cpu",
            Self::Memory => "not enough memory",
            Self::Constraint => "constraint",
            Self::Platform => "platform",
            Self::MaxReplicas => "max replicas per node",
        }
    }
}

/// The first thing that keeps the node from having a task of the group.
pub(super) fn obstacle(group: &Group<'_>, room: &Room<'_>) -> Option<Obstacle> {
    condition(room.node).or_else(|| lack(group, room)).or_else(|| mismatch(group, room.node)).or_else(|| {
        is_full(group.placement.max_replicas_per_node, group.on_node(room.id).tasks)
            .then_some(Obstacle::MaxReplicas)
    })
}

/// Whether the service has as many tasks on a node as it may.
pub(super) fn is_full(most: u64, tasks: u64) -> bool {
    most > 0 && tasks >= most
}

/// What the node lacks for one more task.
pub(super) fn lack(group: &Group<'_>, room: &Room<'_>) -> Option<Obstacle> {
    let (wanted, free) = (group.spec.reservations, room.free());
    if wanted.cpu > free.cpu {
        Some(Obstacle::Cpu)
    } else if wanted.memory > free.memory {
        Some(Obstacle::Memory)
    } else {
        None
    }
}

fn condition(node: &Node) -> Option<Obstacle> {
    match (node.status.state, node.spec.availability) {
        (NodeState::Ready, Availability::Active) => None,
        (NodeState::Ready, Availability::Pause) => Some(Obstacle::Paused),
        (NodeState::Ready, Availability::Drain) => Some(Obstacle::Drained),
        _ => Some(Obstacle::NotReady),
    }
}

fn mismatch(group: &Group<'_>, node: &Node) -> Option<Obstacle> {
    if !constraints_admit(group.placement, node) {
        return Some(Obstacle::Constraint);
    }
    let runs = group.platform.is_none_or(|platform| runs(platform, &node.description.platform));
    (!runs).then_some(Obstacle::Platform)
}

/// Whether an image for `image` runs on `node`; what is not known is not held against it.
fn runs(image: &Platform, node: &Platform) -> bool {
    let differ = |image: &str, node: &str| !image.is_empty() && !node.is_empty() && image != node;
    !differ(&image.os, &node.os)
        && (!differ(&image.architecture, &node.architecture)
            || normal_architecture(&image.architecture) == normal_architecture(&node.architecture))
}
