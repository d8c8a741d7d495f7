//! Where tasks may run, and where they run rather than elsewhere.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::constraint::Constraint;

/// Where tasks may run, and where they run rather than elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placement {
    /// All must hold.
    pub constraints: Vec<Constraint>,
    /// Tasks are divided equally among the values of these labels, the first one first.
    pub preferences: Vec<SpreadOver>,
    /// Tasks of the service on one node at most; zero is no limit.
    pub max_replicas_per_node: u64,
    /// How nodes that are otherwise equal are chosen.
    pub strategy: Strategy,
    /// Not on a node with a task of a service that has one of these labels (`KEY` or `KEY=VALUE`).
    pub away_from: BTreeSet<ServiceLabel>,
    /// Ports of the node that a task takes for itself.
    pub host_ports: BTreeSet<HostPort>,
}

/// How nodes that are otherwise equal are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Strategy {
    /// The node with the fewest tasks.
    #[default]
    Spread,
    /// The fullest node that has room: fewer machines are used.
    Binpack,
}

impl Strategy {
    /// The word on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Spread => "spread",
            Self::Binpack => "binpack",
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a text is not a strategy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("placement-strategy: invalid value {0:?}: use spread or binpack")]
pub struct StrategyError(String);

impl FromStr for Strategy {
    type Err = StrategyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "spread" => Ok(Self::Spread),
            "binpack" => Ok(Self::Binpack),
            other => Err(StrategyError(other.to_owned())),
        }
    }
}

/// A label over whose values tasks are divided.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SpreadOver {
    /// `node.labels.K`
    NodeLabel(String),
    /// `engine.labels.K`
    EngineLabel(String),
}

impl SpreadOver {
    /// The node's value; a node without the label belongs to the branch of the empty text.
    #[must_use]
    pub fn branch<'a>(&self, node: &'a crate::node::Node) -> &'a str {
        match self {
            Self::NodeLabel(key) => node.spec.labels.get(key),
            Self::EngineLabel(key) => node.description.labels.get(key),
        }
        .map_or("", String::as_str)
    }
}

impl fmt::Display for SpreadOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NodeLabel(key) => write!(f, "spread=node.labels.{key}"),
            Self::EngineLabel(key) => write!(f, "spread=engine.labels.{key}"),
        }
    }
}

/// Why a text is not a preference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("placement-pref: invalid value {0:?}: use spread=node.labels.KEY or spread=engine.labels.KEY")]
pub struct SpreadOverError(String);

impl FromStr for SpreadOver {
    type Err = SpreadOverError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let label =
            |prefix| text.strip_prefix("spread=")?.strip_prefix(prefix).filter(|key: &&str| !key.is_empty());
        match (label("node.labels."), label("engine.labels.")) {
            (Some(key), _) => Ok(Self::NodeLabel(key.to_owned())),
            (_, Some(key)) => Ok(Self::EngineLabel(key.to_owned())),
            _ => Err(SpreadOverError(text.to_owned())),
        }
    }
}

/// A label that a service may have: `KEY` with any value, or `KEY=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceLabel {
    /// The key.
    pub key: String,
    /// The value; none is any.
    pub value: Option<String>,
}

impl ServiceLabel {
    /// Whether a service with these labels is meant.
    #[must_use]
    pub fn matches(&self, labels: &std::collections::BTreeMap<String, String>) -> bool {
        labels.get(&self.key).is_some_and(|found| self.value.as_ref().is_none_or(|value| value == found))
    }
}

impl fmt::Display for ServiceLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}={value}", self.key),
            None => f.pad(&self.key),
        }
    }
}

/// Why a text is not a label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("anti-affinity: invalid value {0:?}: use KEY or KEY=VALUE of the labels of services")]
pub struct ServiceLabelError(String);

impl FromStr for ServiceLabel {
    type Err = ServiceLabelError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (text, None),
        };
        if key.is_empty() || key.contains(char::is_whitespace) {
            return Err(ServiceLabelError(text.to_owned()));
        }
        Ok(Self { key: key.to_owned(), value })
    }
}

/// A port of the node that a task takes for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    /// Its number, never zero.
    pub port: u16,
    /// Which protocol.
    pub protocol: Protocol,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.protocol.as_str())
    }
}

/// A protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Protocol {
    /// TCP
    #[default]
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

impl Protocol {
    /// The word on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}
