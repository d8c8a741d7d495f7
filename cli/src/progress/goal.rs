//! What a command waits for: how its service is to end up, and for how long it is watched there.

use std::time::Duration;

use coracle_model::rollout::UpdateConfig;
use coracle_proto::v1;
use coracle_proto::v1::service_spec::Mode;

use super::is_rollback;

/// How long a service must stay converged before that is said: a program that ends right after its start shows within it.
pub(super) const SETTLING: Duration = Duration::from_secs(1);

/// What a command waits for besides that its service converges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Goal {
    /// Where the service is to end up.
    pub(super) end: End,
    /// How long it must stay there.
    pub(super) settling: Duration,
}

/// Where a service is to end up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// With the specification that was written: going back from it is a failure.
    Specification {
        /// A rollback was there already when it was written.
        rollback_before: bool,
    },
    /// With the specification before.
    Rollback,
    /// With nothing left to move.
    Rebalance,
    /// A job's next run has it, which the clock begins or somebody else; what the last one came to says nothing of it.
    NextRun {
        /// What its tasks are made of was changed.
        differs: bool,
    },
}

impl Goal {
    /// That nothing is left to move.
    pub(crate) const REBALANCE: Self = Self { end: End::Rebalance, settling: SETTLING };

    /// That the tasks of a new service run, for as long as its updates watch new ones where that is longer than usual.
    pub(crate) fn created(service: &v1::Service) -> Self {
        Self { end: End::Specification { rollback_before: false }, settling: watched(service) }
    }

    /// That a write took effect over this service and was answered with that one. Tasks that are more than before are watched as
    /// those of a new service; those that are replaced the update watches itself.
    pub(crate) fn updated(before: &v1::Service, written: Option<&v1::Service>) -> Self {
        let update = written.and_then(|service| service.update.as_ref());
        let specification = End::Specification { rollback_before: update.is_some_and(is_rollback) };
        let grown = written.filter(|written| replicas(written) > replicas(before));
        Self {
            end: next_run(before, written).unwrap_or(specification),
            settling: grown.map_or(SETTLING, watched),
        }
    }

    /// That a service is back at the specification before.
    pub(crate) fn rolled_back(before: &v1::Service, written: Option<&v1::Service>) -> Self {
        Self { end: next_run(before, written).unwrap_or(End::Rollback), settling: SETTLING }
    }
}

/// How long new tasks are watched: as the operator said, where that is longer than updates do unless they are told.
fn watched(service: &v1::Service) -> Duration {
    let update = service.spec.as_ref().and_then(|spec| spec.update.as_ref());
    let monitor = update.and_then(|update| update.monitor).map(Duration::from_nanos);
    monitor.filter(|monitor| *monitor > UpdateConfig::default().monitor).unwrap_or(SETTLING)
}

fn replicas(service: &v1::Service) -> Option<u64> {
    match service.spec.as_ref()?.mode.as_ref()? {
        Mode::Replicated(replicated) => Some(replicated.replicas),
        _ => None,
    }
}

/// The end of a write that began no run of a job, and leaves the present one as it is.
fn next_run(before: &v1::Service, written: Option<&v1::Service>) -> Option<End> {
    let written = written?;
    let (then, now) = (before.job.as_ref()?, written.job.as_ref()?);
    let (from, to) = (before.spec.as_ref()?, written.spec.as_ref()?);
    let scheduled = to.job.as_ref().is_some_and(|job| job.schedule.is_some());
    // More completions, or fewer, are a matter of the present run.
    let untouched = then.run == now.run && from.mode == to.mode;
    (untouched && (scheduled || now.ended_at.is_some()))
        .then(|| End::NextRun { differs: from.task != to.task })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(mode: Mode, image: &str) -> v1::Service {
        let image = v1::PinnedImage { reference: image.to_owned(), ..Default::default() };
        let container = v1::ContainerSpec { image: Some(image), ..Default::default() };
        let task = v1::TaskSpec { container: Some(container), ..Default::default() };
        let spec = v1::ServiceSpec { mode: Some(mode), task: Some(task), ..Default::default() };
        v1::Service { spec: Some(spec), ..Default::default() }
    }

    fn web(replicas: u64, monitor: Option<u64>) -> v1::Service {
        let mut web = service(Mode::Replicated(v1::Replicated { replicas }), "web:1");
        let update = v1::UpdateConfig { monitor: monitor.map(|s| s * 1_000_000_000), ..Default::default() };
        web.spec.as_mut().unwrap().update = Some(update);
        web
    }

    fn job(image: &str, run: u64, ended: bool, scheduled: bool) -> v1::Service {
        let mut job = service(Mode::GlobalJob(v1::GlobalJob {}), image);
        let schedule = scheduled.then(v1::JobSchedule::default);
        job.spec.as_mut().unwrap().job = Some(v1::JobConfig { schedule, ..Default::default() });
        job.job = Some(v1::JobStatus { run, ended_at: ended.then_some(9), ..Default::default() });
        job
    }

    #[test]
    fn new_tasks_are_watched_for_as_long_as_the_operator_asked() {
        let settling = |service: &v1::Service| Goal::created(service).settling;
        assert_eq!(settling(&web(1, None)), SETTLING);
        assert_eq!(settling(&web(1, Some(2))), SETTLING);
        assert_eq!(settling(&web(1, Some(5))), SETTLING, "the default, spelled out by the managers");
        assert_eq!(settling(&web(1, Some(30))), Duration::from_secs(30));
        let scaled = |from, to| Goal::updated(&web(from, Some(30)), Some(&web(to, Some(30)))).settling;
        assert_eq!(scaled(1, 3), Duration::from_secs(30));
        assert_eq!((scaled(3, 1), scaled(3, 3)), (SETTLING, SETTLING), "none is new");
    }

    #[test]
    fn what_begins_no_run_is_done_when_it_is_written() {
        let end = |before: &v1::Service, after: &v1::Service| Goal::updated(before, Some(after)).end;
        let specification = End::Specification { rollback_before: false };
        let (old, new) = ("job:1", "job:2");
        for ended in [true, false] {
            let (before, after) = (job(old, 3, ended, true), job(new, 3, ended, true));
            assert_eq!(end(&before, &after), End::NextRun { differs: true }, "the clock begins the next one");
            assert_eq!(Goal::rolled_back(&before, Some(&after)).end, End::NextRun { differs: true });
            assert_eq!(end(&before, &before), End::NextRun { differs: false });
            assert_eq!(end(&before, &job(new, 4, false, true)), specification, "it was forced");
        }
        let failed = job(old, 1, true, false);
        assert_eq!(end(&failed, &failed), End::NextRun { differs: false }, "its labels");
        assert_eq!(end(&failed, &job(new, 2, false, false)), specification);
        assert_eq!(Goal::rolled_back(&failed, Some(&job(new, 2, false, false))).end, End::Rollback);
        let running = job(old, 1, false, false);
        assert_eq!(end(&running, &running), specification, "it goes on with what is wanted");
    }

    #[test]
    fn more_completions_are_a_matter_of_the_present_run() {
        let with = |completions| {
            let mut job = job("job:1", 3, true, true);
            let mode = v1::ReplicatedJob { completions, concurrent: 0 };
            job.spec.as_mut().unwrap().mode = Some(Mode::ReplicatedJob(mode));
            job
        };
        let goal = Goal::updated(&with(2), Some(&with(3)));
        assert_eq!(goal.end, End::Specification { rollback_before: false });
    }
}
