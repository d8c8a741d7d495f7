//! Nodes, and the words that describe them.

use coracle_model::node::{
    Availability, ManagerMember, Node, NodeDescription, NodeSpec, NodeState, NodeStatus,
};
use coracle_model::role::Role;
use coracle_model::version::Version;

use super::{DecodeError, enumerator, parse, required, timestamp};
use crate::v1;

impl From<Role> for v1::NodeRole {
    /// An operator is never a node: it becomes the unspecified role.
    fn from(role: Role) -> Self {
        match role {
            Role::Worker => Self::Worker,
            Role::Manager => Self::Manager,
            Role::Operator => Self::Unspecified,
        }
    }
}

impl TryFrom<v1::NodeRole> for Role {
    type Error = DecodeError;

    fn try_from(message: v1::NodeRole) -> Result<Self, DecodeError> {
        match message {
            v1::NodeRole::Worker => Ok(Self::Worker),
            v1::NodeRole::Manager => Ok(Self::Manager),
            v1::NodeRole::Unspecified => Err(DecodeError::Missing { field: "role" }),
        }
    }
}

/// The role behind its number on the wire.
///
/// # Errors
/// When it is unspecified or unknown.
pub fn role(number: i32) -> Result<Role, DecodeError> {
    enumerator::<v1::NodeRole>("role", number)?.try_into()
}

impl From<Availability> for v1::Availability {
    fn from(availability: Availability) -> Self {
        match availability {
            Availability::Active => Self::Active,
            Availability::Pause => Self::Pause,
            Availability::Drain => Self::Drain,
        }
    }
}

impl From<v1::Availability> for Availability {
    fn from(message: v1::Availability) -> Self {
        match message {
            v1::Availability::Active => Self::Active,
            v1::Availability::Pause => Self::Pause,
            v1::Availability::Drain => Self::Drain,
        }
    }
}

/// The availability behind its number on the wire.
///
/// # Errors
/// When it is unknown.
pub fn availability(number: i32) -> Result<Availability, DecodeError> {
    enumerator::<v1::Availability>("availability", number).map(Into::into)
}

impl From<NodeState> for v1::NodeState {
    fn from(state: NodeState) -> Self {
        match state {
            NodeState::Unknown => Self::Unknown,
            NodeState::Ready => Self::Ready,
            NodeState::Down => Self::Down,
        }
    }
}

impl From<v1::NodeState> for NodeState {
    fn from(message: v1::NodeState) -> Self {
        match message {
            v1::NodeState::Unknown => Self::Unknown,
            v1::NodeState::Ready => Self::Ready,
            v1::NodeState::Down => Self::Down,
        }
    }
}

/// The state of a node behind its number on the wire.
///
/// # Errors
/// When it is unknown.
pub fn node_state(number: i32) -> Result<NodeState, DecodeError> {
    enumerator::<v1::NodeState>("node state", number).map(Into::into)
}

impl From<&NodeSpec> for v1::NodeSpec {
    fn from(spec: &NodeSpec) -> Self {
        Self {
            role: v1::NodeRole::from(spec.role).into(),
            availability: v1::Availability::from(spec.availability).into(),
            labels: spec.labels.clone().into_iter().collect(),
        }
    }
}

impl TryFrom<v1::NodeSpec> for NodeSpec {
    type Error = DecodeError;

    fn try_from(message: v1::NodeSpec) -> Result<Self, DecodeError> {
        Ok(Self {
            role: role(message.role)?,
            availability: availability(message.availability)?,
            labels: message.labels.into_iter().collect(),
        })
    }
}

impl From<&NodeDescription> for v1::NodeDescription {
    fn from(description: &NodeDescription) -> Self {
        Self {
            hostname: description.hostname.clone(),
            platform: Some((&description.platform).into()),
            resources: Some((&description.resources).into()),
            engine_version: description.engine_version.clone(),
            labels: description.labels.clone().into_iter().collect(),
            generic: description.generic.iter().map(|(kind, held)| (kind.clone(), held.into())).collect(),
        }
    }
}

impl From<v1::NodeDescription> for NodeDescription {
    fn from(message: v1::NodeDescription) -> Self {
        Self {
            hostname: message.hostname,
            platform: message.platform.unwrap_or_default().into(),
            resources: message.resources.unwrap_or_default().into(),
            engine_version: message.engine_version,
            labels: message.labels.into_iter().collect(),
            generic: message.generic.into_iter().map(|(kind, held)| (kind, held.into())).collect(),
        }
    }
}

impl From<&NodeStatus> for v1::NodeStatus {
    fn from(status: &NodeStatus) -> Self {
        Self {
            state: v1::NodeState::from(status.state).into(),
            since: status.since.as_nanos(),
            message: status.message.clone(),
            address: status.address.clone(),
        }
    }
}

impl TryFrom<v1::NodeStatus> for NodeStatus {
    type Error = DecodeError;

    fn try_from(message: v1::NodeStatus) -> Result<Self, DecodeError> {
        Ok(Self {
            state: node_state(message.state)?,
            since: timestamp(message.since),
            message: message.message,
            address: message.address,
        })
    }
}

impl From<&ManagerMember> for v1::ManagerMember {
    fn from(member: &ManagerMember) -> Self {
        Self { raft_id: member.raft_id, address: member.address.clone() }
    }
}

impl From<v1::ManagerMember> for ManagerMember {
    fn from(message: v1::ManagerMember) -> Self {
        Self { raft_id: message.raft_id, address: message.address }
    }
}

impl From<&Node> for v1::Node {
    fn from(node: &Node) -> Self {
        Self {
            id: node.id.to_string(),
            version: node.version.index(),
            created_at: node.created_at.as_nanos(),
            spec: Some((&node.spec).into()),
            description: Some((&node.description).into()),
            status: Some((&node.status).into()),
            manager: node.manager.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<v1::Node> for Node {
    type Error = DecodeError;

    fn try_from(message: v1::Node) -> Result<Self, DecodeError> {
        Ok(Self {
            id: parse("node", &message.id)?,
            version: Version::new(message.version),
            created_at: timestamp(message.created_at),
            spec: required("node spec", message.spec)?.try_into()?,
            description: message.description.unwrap_or_default().into(),
            status: message.status.unwrap_or_default().try_into()?,
            manager: message.manager.map(Into::into),
        })
    }
}
