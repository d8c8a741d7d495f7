//! Jobs.

use coracle_model::job::{Concurrency, DEFAULT_HISTORY, EarlierRun, JobConfig, JobStatus, Schedule};

use super::{DecodeError, duration, enumerator, nanos, timestamp};
use crate::v1;

impl From<Concurrency> for v1::JobConcurrency {
    fn from(concurrency: Concurrency) -> Self {
        match concurrency {
            Concurrency::Allow => Self::Allow,
            Concurrency::Forbid => Self::Forbid,
            Concurrency::Replace => Self::Replace,
        }
    }
}

impl From<v1::JobConcurrency> for Concurrency {
    fn from(message: v1::JobConcurrency) -> Self {
        match message {
            v1::JobConcurrency::Allow => Self::Allow,
            v1::JobConcurrency::Forbid => Self::Forbid,
            v1::JobConcurrency::Replace => Self::Replace,
        }
    }
}

impl From<&Schedule> for v1::JobSchedule {
    fn from(schedule: &Schedule) -> Self {
        Self {
            cron: schedule.cron.clone(),
            timezone: schedule.timezone.clone(),
            concurrency: v1::JobConcurrency::from(schedule.concurrency).into(),
            history: Some(schedule.history),
        }
    }
}

impl TryFrom<v1::JobSchedule> for Schedule {
    type Error = DecodeError;

    fn try_from(message: v1::JobSchedule) -> Result<Self, DecodeError> {
        Ok(Self {
            cron: message.cron,
            timezone: message.timezone,
            concurrency: enumerator::<v1::JobConcurrency>("concurrency", message.concurrency)?.into(),
            history: message.history.unwrap_or(DEFAULT_HISTORY),
        })
    }
}

impl From<&JobConfig> for v1::JobConfig {
    fn from(job: &JobConfig) -> Self {
        Self {
            schedule: job.schedule.as_ref().map(Into::into),
            time_limit: nanos(job.time_limit),
            time_to_live: job.time_to_live.map(nanos),
        }
    }
}

impl TryFrom<v1::JobConfig> for JobConfig {
    type Error = DecodeError;

    fn try_from(message: v1::JobConfig) -> Result<Self, DecodeError> {
        Ok(Self {
            schedule: message.schedule.map(TryInto::try_into).transpose()?,
            time_limit: duration(message.time_limit),
            time_to_live: message.time_to_live.map(duration),
        })
    }
}

impl From<&JobStatus> for v1::JobStatus {
    fn from(status: &JobStatus) -> Self {
        Self {
            run: status.run,
            started_at: status.started_at.as_nanos(),
            ended_at: status.ended_at.map(|time| time.as_nanos()),
            scheduled_until: status.scheduled_until.as_nanos(),
            earlier: status.earlier.iter().map(Into::into).collect(),
        }
    }
}

impl From<v1::JobStatus> for JobStatus {
    fn from(message: v1::JobStatus) -> Self {
        Self {
            run: message.run,
            started_at: timestamp(message.started_at),
            ended_at: message.ended_at.map(timestamp),
            scheduled_until: timestamp(message.scheduled_until),
            earlier: message.earlier.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<&EarlierRun> for v1::EarlierRun {
    fn from(run: &EarlierRun) -> Self {
        Self {
            run: run.run,
            started_at: run.started_at.as_nanos(),
            ended_at: run.ended_at.map(|time| time.as_nanos()),
        }
    }
}

impl From<v1::EarlierRun> for EarlierRun {
    fn from(message: v1::EarlierRun) -> Self {
        Self {
            run: message.run,
            started_at: timestamp(message.started_at),
            ended_at: message.ended_at.map(timestamp),
        }
    }
}
