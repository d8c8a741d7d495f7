//! Updates, rollbacks and jobs.

use std::time::Duration;

use crate::cron::Cron;
use crate::rollout::{FailureAction, UpdateConfig};
use crate::service::ServiceSpec;

use super::{Invalid, duration, invalid};

pub(super) fn check(spec: &ServiceSpec) -> Result<(), Invalid> {
    for (fields, flags, config) in
        [(UPDATE, "--update-…", &spec.update), (ROLLBACK, "--rollback-…", &spec.rollback)]
    {
        duration(fields[1], config.delay)?;
        duration(fields[2], config.monitor)?;
        duration(fields[3], config.timeout)?;
        if spec.mode.is_job() && *config != UpdateConfig::default() {
            let problem = format!("a job is not replaced task by task; leave out the flags {flags}");
            return invalid("mode", spec.mode.as_str(), &problem);
        }
    }
    if spec.rollback.failure_action == FailureAction::Rollback {
        return invalid("rollback-failure-action", "rollback", "use pause or continue");
    }
    if let Some(delay) = spec.node_down_delay {
        duration("node-down-delay", delay)?;
    }
    job(spec)
}

const UPDATE: [&str; 4] = ["update-parallelism", "update-delay", "update-monitor", "update-timeout"];
const ROLLBACK: [&str; 4] =
    ["rollback-parallelism", "rollback-delay", "rollback-monitor", "rollback-timeout"];

fn job(spec: &ServiceSpec) -> Result<(), Invalid> {
    let job = &spec.job;
    if !spec.mode.is_job() {
        let problem = "only jobs have it; use --mode replicated-job or global-job, or leave it out";
        if let Some(schedule) = &job.schedule {
            return invalid("schedule", &schedule.cron, problem);
        }
        if job.time_limit > Duration::ZERO {
            return invalid("time-limit", seconds(job.time_limit), problem);
        }
        if let Some(ttl) = job.time_to_live {
            return invalid("ttl", seconds(ttl), problem);
        }
        return Ok(());
    }
    duration("time-limit", job.time_limit)?;
    duration("ttl", job.time_to_live.unwrap_or_default())?;
    let Some(schedule) = &job.schedule else { return Ok(()) };
    if let Err(error) = schedule.cron.parse::<Cron>() {
        let told = error.to_string();
        let problem = told.split_once("\": ").map_or(told.as_str(), |(_, problem)| problem);
        return invalid("schedule", &schedule.cron, problem);
    }
    if crate::cron::time_zone(&schedule.timezone).is_err() {
        return invalid(
            "timezone",
            &schedule.timezone,
            "use a name such as Europe/Berlin, or leave it out for UTC",
        );
    }
    Ok(())
}

pub(super) fn seconds(duration: Duration) -> String {
    format!("{}s", duration.as_secs_f64())
}
