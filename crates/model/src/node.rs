//! Machines of the cluster.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::id::NodeId;
use crate::resources::{GenericResource, Resources};
use crate::role::Role;
use crate::time::Timestamp;
use crate::version::Version;

/// A member of the cluster, as the managers know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Who it is; the common name of its certificate.
    pub id: NodeId,
    /// Last write to this object.
    pub version: Version,
    /// When it joined.
    pub created_at: Timestamp,
    /// What operators ask of it.
    pub spec: NodeSpec,
    /// What it says of itself.
    pub description: NodeDescription,
    /// Whether it can be used.
    pub status: NodeStatus,
    /// Its place in Raft, while it has one.
    pub manager: Option<ManagerMember>,
}

/// What operators ask of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSpec {
    /// Worker or manager.
    pub role: Role,
    /// Whether it gets and keeps tasks.
    pub availability: Availability,
    /// Labels for constraints.
    pub labels: BTreeMap<String, String>,
}

/// Whether a node gets and keeps tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Availability {
    /// Gets tasks.
    #[default]
    Active,
    /// Keeps its tasks, gets no more.
    Pause,
    /// Its tasks are moved away.
    Drain,
}

impl Availability {
    /// The word on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Pause => "pause",
            Self::Drain => "drain",
        }
    }
}

impl fmt::Display for Availability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a text is not an availability.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("availability: invalid value {0:?}: use active, pause or drain")]
pub struct AvailabilityError(String);

impl FromStr for Availability {
    type Err = AvailabilityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "active" => Ok(Self::Active),
            "pause" => Ok(Self::Pause),
            "drain" => Ok(Self::Drain),
            other => Err(AvailabilityError(other.to_owned())),
        }
    }
}

/// What a node says of itself when it opens a session.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeDescription {
    /// Free text, not unique.
    pub hostname: String,
    /// Operating system and architecture.
    pub platform: Platform,
    /// What tasks may reserve.
    pub resources: Resources,
    /// What else they may, by kind.
    pub generic: BTreeMap<String, GenericResource>,
    /// Version of its `coracle`.
    pub engine_version: String,
    /// Labels set on the node itself.
    pub labels: BTreeMap<String, String>,
}

/// Operating system and architecture in OCI words (`linux`, `amd64`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Platform {
    /// Operating system.
    pub os: String,
    /// Processor architecture.
    pub architecture: String,
}

/// Whether a node can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    /// Its state.
    pub state: NodeState,
    /// Since when.
    pub since: Timestamp,
    /// Why, for the operator; empty when there is nothing to say.
    pub message: String,
    /// `IP:PORT` at which other nodes reach its listener.
    pub address: String,
}

/// Whether a node can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum NodeState {
    /// It has joined and has not been heard since.
    #[default]
    Unknown,
    /// Its agent holds a session.
    Ready,
    /// Its grace is over; its tasks are replaced elsewhere.
    Down,
}

impl NodeState {
    /// The word in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Ready => "ready",
            Self::Down => "down",
        }
    }
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A manager's place in Raft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagerMember {
    /// Its Raft id, never given twice in a cluster.
    pub raft_id: u64,
    /// `IP:PORT` at which the other managers reach it.
    pub address: String,
}

impl Node {
    /// Whether the scheduler may give it new tasks.
    #[must_use]
    pub fn takes_new_tasks(&self) -> bool {
        self.status.state == NodeState::Ready && self.spec.availability == Availability::Active
    }

    /// Whether tasks that it has may stay on it as far as its own condition goes.
    #[must_use]
    pub fn keeps_tasks(&self) -> bool {
        self.status.state != NodeState::Down && self.spec.availability != Availability::Drain
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn node(number: u128) -> Node {
        Node {
            id: NodeId::from_bits(number),
            version: Version::new(1),
            created_at: Timestamp::EPOCH,
            spec: NodeSpec {
                role: Role::Worker,
                availability: Availability::Active,
                labels: BTreeMap::new(),
            },
            description: NodeDescription { hostname: format!("host{number}"), ..NodeDescription::default() },
            status: NodeStatus {
                state: NodeState::Ready,
                since: Timestamp::EPOCH,
                message: String::new(),
                address: format!("10.0.0.{number}:2377"),
            },
            manager: None,
        }
    }

    #[test]
    fn only_a_ready_active_node_takes_tasks() {
        let mut subject = node(1);
        assert!(subject.takes_new_tasks() && subject.keeps_tasks());
        subject.spec.availability = Availability::Pause;
        assert!(!subject.takes_new_tasks() && subject.keeps_tasks());
        subject.spec.availability = Availability::Drain;
        assert!(!subject.keeps_tasks());
        subject.spec.availability = Availability::Active;
        subject.status.state = NodeState::Unknown;
        assert!(!subject.takes_new_tasks() && subject.keeps_tasks());
    }
}
