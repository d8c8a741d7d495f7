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
    /// How long after its end the service is removed; of one with a schedule, the tasks of a run after the end of that run.
    /// None keeps them.
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
    /// Both run, each as if it were alone.
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
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobStatus {
    /// The present run; grows with each. Tasks name the run that they belong to.
    pub run: u64,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Up to when due runs were looked at; a new leader goes on from here.
    pub scheduled_until: Timestamp,
    /// Runs before the present one that go on, or whose tasks are kept; the oldest first.
    pub earlier: Vec<EarlierRun>,
}

/// A run before the present one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EarlierRun {
    /// Its number.
    pub run: u64,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended; none while it goes on.
    pub ended_at: Option<Timestamp>,
}

/// Runs that may go on at a time: one that never ends must not fill the cluster.
pub const MOST_OPEN_RUNS: usize = 100;
/// Ended runs of which more is known than their tasks.
const MOST_EARLIER_RUNS: usize = 1000;

impl JobStatus {
    /// The next run, which begins now. Of a job with a schedule the present one is remembered; it goes on where runs may overlap,
    /// otherwise it has ended.
    #[must_use]
    pub fn next(&self, now: Timestamp, schedule: Option<&Schedule>) -> Self {
        let mut earlier = Vec::new();
        if let Some(schedule) = schedule {
            earlier.clone_from(&self.earlier);
            let goes_on = self.ended_at.is_none() && schedule.concurrency == Concurrency::Allow;
            let ended_at = self.ended_at.or((!goes_on).then_some(now));
            if self.run > 0 && (ended_at.is_none() || schedule.history > 0) {
                earlier.push(EarlierRun { run: self.run, started_at: self.started_at, ended_at });
            }
        }
        let surplus = earlier.len().saturating_sub(MOST_EARLIER_RUNS);
        earlier.drain(..surplus);
        Self { run: self.run + 1, started_at: now, ended_at: None, scheduled_until: now, earlier }
    }

    /// Whether as many runs go on as may.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let earlier = self.earlier.iter().filter(|run| run.ended_at.is_none()).count();
        let present = usize::from(self.run > 0 && self.ended_at.is_none());
        earlier + present >= MOST_OPEN_RUNS
    }
}
