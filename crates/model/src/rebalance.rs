//! Moving tasks that run to nodes that suit them better: how, and where that stands.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::id::TaskId;
use crate::rollout::Order;
use crate::time::Timestamp;

/// Pause after a move unless a service says otherwise.
pub const DEFAULT_PAUSE: Duration = Duration::from_secs(30);
/// Shortest pause: a rebalance never goes on without limits.
pub const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// How tasks of a service are moved. One moves at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RebalanceConfig {
    /// Whether it begins by itself.
    pub policy: RebalancePolicy,
    /// Tasks by which a node may have more than another that could take one; at least one.
    pub max_skew: u64,
    /// Pause after a move.
    pub delay: Duration,
    /// Which task of a slot goes first.
    pub order: Order,
}

impl Default for RebalanceConfig {
    fn default() -> Self {
        Self { policy: RebalancePolicy::Off, max_skew: 1, delay: DEFAULT_PAUSE, order: Order::StartFirst }
    }
}

/// Whether tasks are moved without being asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RebalancePolicy {
    /// Only when an operator says so.
    #[default]
    Off,
    /// When nodes join, return or become active.
    Auto,
}

impl RebalancePolicy {
    /// The word on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Auto => "auto",
        }
    }
}

impl fmt::Display for RebalancePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a text is not a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rebalance: invalid value {0:?}: use auto or off")]
pub struct RebalancePolicyError(String);

impl FromStr for RebalancePolicy {
    type Err = RebalancePolicyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" => Ok(Self::Off),
            "auto" => Ok(Self::Auto),
            other => Err(RebalancePolicyError(other.to_owned())),
        }
    }
}

/// Where a rebalance stands; all that a new leader needs to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RebalanceProgress {
    /// Its state.
    pub state: RebalanceState,
    /// Nobody asked for it.
    pub automatic: bool,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// For the operator.
    pub message: String,
    /// Moves that have begun.
    pub moves: u64,
    /// Moves at most; none is as many as it takes.
    pub limit: Option<u64>,
    /// When it began, or the last move was over.
    pub since: Timestamp,
    /// The move that is under way.
    pub moving: Option<Move>,
}

/// A task that takes the place of another on a better node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Move {
    /// The task that goes.
    pub from: TaskId,
    /// The task that comes.
    pub to: TaskId,
}

impl RebalanceProgress {
    /// One that begins.
    #[must_use]
    pub fn begun(at: Timestamp, automatic: bool, limit: Option<u64>) -> Self {
        Self {
            state: RebalanceState::Moving,
            automatic,
            started_at: at,
            ended_at: None,
            message: "rebalance in progress".to_owned(),
            moves: 0,
            limit,
            since: at,
            moving: None,
        }
    }
}

/// Where a rebalance stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RebalanceState {
    /// Tasks are being moved.
    Moving,
    /// Nothing is left to move, or as much was moved as was wanted.
    Completed,
    /// It was given up.
    Stopped,
}

impl RebalanceState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Moving, Self::Completed, Self::Stopped];

    /// The word in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Moving => "moving",
            Self::Completed => "completed",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for RebalanceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
