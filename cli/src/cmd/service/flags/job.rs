//! Jobs.

use std::time::Duration;

use coracle_model::job::Concurrency;
use coracle_proto::convert::nanos;
use coracle_proto::v1;
use coracle_proto::v1::service_spec::Mode;

use crate::opt::duration::{self, Perhaps};
use crate::opt::{FlagError, choice, count};

/// Flags of jobs.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct JobFlags {
    /// Tasks of a replicated job at a time; 0 is all (default as many as --replicas)
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, value_parser = count::parser("max-concurrent"))]
    max_concurrent: Option<u64>,
    /// When a job runs again by itself, as crontab has it: '30 2 * * mon-fri'; empty is never
    #[arg(long, value_name = "CRON")]
    schedule: Option<String>,
    /// Time zone of the schedule, such as Europe/Berlin (default UTC)
    #[arg(long, value_name = "NAME")]
    timezone: Option<String>,
    /// When a run is due and the one before goes on: allow (both go on), forbid (the new one is left out) or replace (default forbid)
    #[arg(long, value_name = "RULE", value_parser = choice::parser::<Concurrency>("concurrency", "use allow, forbid or replace"))]
    concurrency: Option<Concurrency>,
    /// Ended runs of a job whose tasks are kept (default 3)
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, value_parser = history)]
    history: Option<u32>,
    /// How long one run of a job may take; 0 is no limit
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = duration::parser("time-limit"))]
    time_limit: Option<Duration>,
    /// How long after its end a job is removed, and of one with a schedule the tasks of each run; or none
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = duration::perhaps("ttl"))]
    ttl: Option<Perhaps>,
}

fn history(text: &str) -> Result<u32, FlagError> {
    let number = count::parse("history", text, u32::MAX.into())?;
    Ok(u32::try_from(number).unwrap_or(u32::MAX))
}

impl JobFlags {
    /// Sets in the specification what was given, and leaves the rest.
    ///
    /// # Errors
    /// When the service is none that can have it.
    pub(crate) fn apply(&self, spec: &mut v1::ServiceSpec) -> Result<(), FlagError> {
        if let Some(concurrent) = self.max_concurrent {
            match &mut spec.mode {
                Some(Mode::ReplicatedJob(job)) => job.concurrent = concurrent,
                _ => {
                    let problem = "only a job with --mode replicated-job has it";
                    return Err(FlagError::new("max-concurrent", concurrent, problem));
                }
            }
        }
        if let Some(limit) = self.time_limit {
            spec.job.get_or_insert_default().time_limit = nanos(limit);
        }
        if let Some(Perhaps(ttl)) = self.ttl {
            spec.job.get_or_insert_default().time_to_live = ttl.map(nanos);
        }
        self.apply_schedule(spec)
    }

    fn apply_schedule(&self, spec: &mut v1::ServiceSpec) -> Result<(), FlagError> {
        if let Some(cron) = &self.schedule {
            let job = spec.job.get_or_insert_default();
            if cron.is_empty() {
                job.schedule = None;
            } else {
                job.schedule.get_or_insert_default().cron.clone_from(cron);
            }
        }
        let details = [
            ("timezone", self.timezone.clone()),
            ("concurrency", self.concurrency.map(|rule| rule.to_string())),
            ("history", self.history.map(|runs| runs.to_string())),
        ];
        let Some((field, value)) = details.into_iter().find_map(|(field, value)| Some((field, value?)))
        else {
            return Ok(());
        };
        let Some(schedule) = spec.job.as_mut().and_then(|job| job.schedule.as_mut()) else {
            return Err(FlagError::new(field, value, "it belongs to a schedule: give --schedule too"));
        };
        super::set(&mut schedule.timezone, &self.timezone);
        super::set(
            &mut schedule.concurrency,
            &self.concurrency.map(|rule| v1::JobConcurrency::from(rule).into()),
        );
        schedule.history = self.history.or(schedule.history);
        Ok(())
    }
}
