//! Jobs: services whose tasks are to end.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::time::Timestamp;

/// What a job needs besides its mode.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobConfig {
    /// When it runs again by itself.
    pub schedule: Option<Schedule>,
    /// How long one run may take; zero is no limit.
    pub time_limit: Duration,
    /// How long after its end the service is removed; none keeps it.
    pub time_to_live: Option<Duration>,
}

/// When a job runs again by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Five fields: minute, hour, day of the month, month, day of the week (crontab(5)).
    pub cron: String,
    /// Name of a time zone (`Europe/Berlin`); empty is UTC.
    pub timezone: String,
    /// What happens when the run before has not ended.
    pub concurrency: Concurrency,
    /// Ended runs whose tasks are kept.
    pub history: u32,
}

/// Ended runs whose tasks are kept unless said otherwise.
pub const DEFAULT_HISTORY: u32 = 3;

/// What happens when a run is due and the one before has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Concurrency {
    /// Both run.
    Allow,
    /// The new one is left out.
    #[default]
    Forbid,
    /// The old one is stopped.
    Replace,
}

impl Concurrency {
    /// The word on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Forbid => "forbid",
            Self::Replace => "replace",
        }
    }
}

impl fmt::Display for Concurrency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a text is no rule for runs that overlap.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("concurrency: invalid value {0:?}: use allow, forbid or replace")]
pub struct ConcurrencyError(String);

impl FromStr for Concurrency {
    type Err = ConcurrencyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "allow" => Ok(Self::Allow),
            "forbid" => Ok(Self::Forbid),
            "replace" => Ok(Self::Replace),
            other => Err(ConcurrencyError(other.to_owned())),
        }
    }
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JobStatus {
    /// The present run; grows with each. Tasks name the run that they belong to.
    pub run: u64,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Up to when due runs were looked at; a new leader goes on from here.
    pub scheduled_until: Timestamp,
}
