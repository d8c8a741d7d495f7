//! How tasks are replaced when their specification changes, and where a replacement stands.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::id::TaskId;
use crate::time::Timestamp;

/// Swarm's default time for which a new task is watched after it runs.
pub const DEFAULT_MONITOR: Duration = Duration::from_secs(5);
/// Time without any progress after which an update counts as failed, unless a service says otherwise. Swarm waits for ever.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);

/// How tasks are replaced when their specification changes; used once for updates and once for rollbacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UpdateConfig {
    /// Slots replaced at a time; zero is all.
    pub parallelism: u64,
    /// Wait after the replacement of a slot before its place in `parallelism` is free again.
    pub delay: Duration,
    /// How long a new task is watched for failure after it runs.
    pub monitor: Duration,
    /// What happens when too many new tasks fail.
    pub failure_action: FailureAction,
    /// Share of the replaced slots that may fail.
    pub max_failure_ratio: Ratio,
    /// Which of the old and the new task of a slot goes first.
    pub order: Order,
    /// Time without progress after which the update counts as failed; zero is no limit.
    pub timeout: Duration,
}

impl Default for UpdateConfig {
    fn default() -> Self {
        Self {
            parallelism: 1,
            delay: Duration::ZERO,
            monitor: DEFAULT_MONITOR,
            failure_action: FailureAction::Pause,
            max_failure_ratio: Ratio::ZERO,
            order: Order::StopFirst,
            timeout: DEFAULT_TIMEOUT,
        }
    }
}

/// What happens when too many new tasks fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum FailureAction {
    /// Nothing more is replaced until the operator speaks.
    #[default]
    Pause,
    /// Failures are not looked at.
    Continue,
    /// The specification before the update is put in force again. Not possible for a rollback itself.
    Rollback,
}

impl FailureAction {
    /// The word on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Continue => "continue",
            Self::Rollback => "rollback",
        }
    }
}

impl fmt::Display for FailureAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a text is not a failure action.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failure-action: invalid value {0:?}: use pause, continue or rollback")]
pub struct FailureActionError(String);

impl FromStr for FailureAction {
    type Err = FailureActionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "pause" => Ok(Self::Pause),
            "continue" => Ok(Self::Continue),
            "rollback" => Ok(Self::Rollback),
            other => Err(FailureActionError(other.to_owned())),
        }
    }
}

/// Which of the old and the new task of a slot goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Order {
    /// The old one is stopped, then the new one starts: never two at a time.
    #[default]
    StopFirst,
    /// The new one runs before the old one is stopped: no gap.
    StartFirst,
}

impl Order {
    /// The word on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StopFirst => "stop-first",
            Self::StartFirst => "start-first",
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a text is not an order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("order: invalid value {0:?}: use stop-first or start-first")]
pub struct OrderError(String);

impl FromStr for Order {
    type Err = OrderError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "stop-first" => Ok(Self::StopFirst),
            "start-first" => Ok(Self::StartFirst),
            other => Err(OrderError(other.to_owned())),
        }
    }
}

/// A share between nothing and all, kept in millionths so that it compares and is stored exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ratio(u32);

impl Ratio {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// All.
    pub const ONE: Self = Self(1_000_000);

    /// From millionths; none above one.
    #[must_use]
    pub const fn from_millionths(millionths: u32) -> Option<Self> {
        if millionths <= Self::ONE.0 { Some(Self(millionths)) } else { None }
    }

    /// In millionths.
    #[must_use]
    pub const fn millionths(self) -> u32 {
        self.0
    }

    /// Whether `part` of `whole` is more than this share.
    #[must_use]
    pub const fn is_exceeded(self, part: u64, whole: u64) -> bool {
        part as u128 * 1_000_000 > whole as u128 * self.0 as u128
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (f64::from(self.0) / 1e6).fmt(f)
    }
}

/// Why a text is not a share.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("ratio: invalid value {0:?}: use a number from 0 to 1")]
pub struct RatioError(String);

impl FromStr for Ratio {
    type Err = RatioError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse::<f64>() {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between zero and a million"
            )]
            Ok(number) if (0.0..=1.0).contains(&number) => Ok(Self((number * 1e6).round() as u32)),
            _ => Err(RatioError(text.to_owned())),
        }
    }
}

/// Where the replacement of tasks stands; all that a new leader needs to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateProgress {
    /// Its state.
    pub state: UpdateState,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// For the operator.
    pub message: String,
    /// Slots that had to be replaced when it began: what failures are a share of.
    pub slots: u64,
    /// New tasks that failed, each counted once.
    pub failed: BTreeSet<TaskId>,
}

impl UpdateProgress {
    /// One that begins.
    #[must_use]
    pub fn begun(state: UpdateState, at: Timestamp, slots: u64, message: impl Into<String>) -> Self {
        let (completed_at, failed) = (None, BTreeSet::new());
        Self { state, started_at: at, completed_at, message: message.into(), slots, failed }
    }
}

/// Where the replacement of tasks stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpdateState {
    /// Some tasks are of an older specification.
    Updating,
    /// Too many new tasks failed, or nothing went forward; waits for the operator.
    Paused,
    /// All tasks are of the present specification.
    Completed,
    /// The former specification is being put in force again.
    RollbackStarted,
    /// That failed too; waits for the operator.
    RollbackPaused,
    /// All tasks are of the former specification again.
    RollbackCompleted,
}

impl UpdateState {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Updating,
        Self::Paused,
        Self::Completed,
        Self::RollbackStarted,
        Self::RollbackPaused,
        Self::RollbackCompleted,
    ];

    /// The word in tables; Docker's.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Updating => "updating",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::RollbackStarted => "rollback_started",
            Self::RollbackPaused => "rollback_paused",
            Self::RollbackCompleted => "rollback_completed",
        }
    }

    /// Whether tasks are being replaced.
    #[must_use]
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Updating | Self::RollbackStarted)
    }

    /// Whether it waits for the operator.
    #[must_use]
    pub const fn is_paused(self) -> bool {
        matches!(self, Self::Paused | Self::RollbackPaused)
    }

    /// Whether it puts a former specification in force.
    #[must_use]
    pub const fn is_rollback(self) -> bool {
        matches!(self, Self::RollbackStarted | Self::RollbackPaused | Self::RollbackCompleted)
    }
}

impl fmt::Display for UpdateState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_exceeded_only_by_more_than_itself() {
        let quarter: Ratio = "0.25".parse().unwrap();
        assert!(!quarter.is_exceeded(1, 4));
        assert!(quarter.is_exceeded(2, 4));
        assert!(Ratio::ZERO.is_exceeded(1, 1_000_000));
        assert!(!Ratio::ONE.is_exceeded(7, 7));
        assert_eq!(quarter.to_string(), "0.25");
    }

    #[test]
    fn a_share_is_between_nothing_and_all() {
        for text in ["-0.1", "1.1", "NaN", "many", ""] {
            assert!(text.parse::<Ratio>().is_err(), "{text}");
        }
        assert_eq!(Ratio::from_millionths(1_000_001), None);
    }
}
