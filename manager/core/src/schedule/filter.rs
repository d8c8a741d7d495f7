//! What keeps a node from having a task. The order is that in which operators can do something about it.

use std::borrow::Cow;

use coracle_model::constraint::normal_architecture;
use coracle_model::node::{Availability, Node, NodeState, Platform};
use coracle_model::placement::HostPort;

use super::group::Group;
use super::room::Room;

/// What keeps a node from having a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Obstacle {
    NotReady,
    Paused,
    Drained,
    Cpu,
    Memory,
    /// Of the kind with this place among those that the task wants.
    Generic(usize),
    Port(HostPort),
    /// The one with this place among the constraints.
    Constraint(usize),
    Platform,
    MaxReplicas,
    Apart,
}

impl Obstacle {
    /// The words in `service ps`.
    pub(super) fn in_words(self, group: &Group<'_>) -> Cow<'static, str> {
        match self {
            Self::NotReady => "not ready".into(),
            Self::Paused => "paused".into(),
            Self::Drained => "drained".into(),
            Self::Cpu => "not enough cpu".into(),
            Self::Memory => "not enough memory".into(),
            Self::Generic(at) => match group.spec.generic.keys().nth(at) {
                Some(kind) => format!("not enough {kind}").into(),
                None => "not enough generic resources".into(),
            },
            Self::Port(port) => format!("port {port} is taken").into(),
            Self::Constraint(at) => match group.placement.constraints.get(at) {
                Some(constraint) => format!("constraint {constraint}").into(),
                None => "constraint".into(),
            },
            Self::Platform => "platform".into(),
            Self::MaxReplicas => "max replicas per node".into(),
            Self::Apart => "a task of a service from which this one keeps apart".into(),
        }
    }
}

/// The first thing that keeps the node from having a task of the group.
pub(super) fn obstacle(group: &Group<'_>, room: &Room<'_>) -> Option<Obstacle> {
    condition(room.node)
        .or_else(|| lack(group, room))
        .or_else(|| mismatch(group, room.node))
        .or_else(|| {
            let most = group.placement.max_replicas_per_node;
            (most > 0 && is_full(most, group.on_node(room.id).tasks)).then_some(Obstacle::MaxReplicas)
        })
        .or_else(|| group.apart.nodes.contains(&room.id).then_some(Obstacle::Apart))
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
        let short = |(kind, count): (&String, &u64)| room.usage.generic_left(room.node, kind) < *count;
        let kind = group.spec.generic.iter().position(short).map(Obstacle::Generic);
        kind.or_else(|| room.usage.taken_port(&group.spec.placement.host_ports).map(Obstacle::Port))
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
    if let Some(at) = group.placement.constraints.iter().position(|constraint| !constraint.admits(node)) {
        return Some(Obstacle::Constraint(at));
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
