//! When a task that ended is replaced.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Which ends lead to a replacement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RestartCondition {
    /// Never.
    None,
    /// Only ends that are not an exit with status zero.
    OnFailure,
    /// Every end.
    #[default]
    Any,
}

impl RestartCondition {
    /// The word on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::OnFailure => "on-failure",
            Self::Any => "any",
        }
    }
}

impl fmt::Display for RestartCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a text is not a restart condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("restart-condition: invalid value {0:?}: use none, on-failure or any")]
pub struct RestartConditionError(String);

impl FromStr for RestartCondition {
    type Err = RestartConditionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self::None),
            "on-failure" => Ok(Self::OnFailure),
            "any" => Ok(Self::Any),
            other => Err(RestartConditionError(other.to_owned())),
        }
    }
}

/// The restart policy of a service; defaults are Swarm's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RestartPolicy {
    /// Which ends lead to a replacement.
    pub condition: RestartCondition,
    /// Wait between an end and the start of the replacement.
    pub delay: Duration,
    /// Replacements per slot (per node for global services) within `window`; zero is unlimited.
    pub max_attempts: u64,
    /// How far back attempts are counted; zero is since the present specification.
    pub window: Duration,
}

/// Swarm's default wait before a replacement starts.
pub const DEFAULT_DELAY: Duration = Duration::from_secs(5);

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            condition: RestartCondition::Any,
            delay: DEFAULT_DELAY,
            max_attempts: 0,
            window: Duration::ZERO,
        }
    }
}
