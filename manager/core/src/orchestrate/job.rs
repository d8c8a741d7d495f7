//! Jobs: services whose tasks are to end with success.
//!
//! A *run* is one time through: so many completions, or one on every node. Tasks name their run, and a slot of a run is done when
//! one of its tasks completed. Everything is counted from the tasks themselves, so a new leader comes to the same numbers and
//! counts nothing twice. An update begins the next run; what is left of the one before makes place first, unless runs may overlap:
//! then each goes on by itself until it has ended.

mod run;

use std::collections::BTreeSet;
use std::time::Duration;

use coracle_model::cron::{Cron, time_zone};
use coracle_model::job::{Concurrency, EarlierRun, JobStatus};
use coracle_model::service::Service;
use coracle_model::task::DesiredState;
use coracle_model::time::Timestamp;

pub(crate) use run::RunCounts;

use run::{Need, Run};

use super::slot::{SlotTasks, raise};
use crate::change::Change;
use crate::plan::{Plan, PlanContext, Waiting};
use crate::state::State;

/// Keeps the present run going, and begins and ends runs.
pub(super) fn plan(
    state: &State,
    service: &Service,
    slots: &[SlotTasks],
    context: &mut PlanContext<'_>,
) -> Plan {
    let mut plan = Plan::default();
    let Some(job) = &service.job else { return plan };
    let now = context.present(state);
    if let Some(next) = begin_when_due(service, job, now, &mut plan) {
        plan.changes.push(next);
        return plan;
    }
    let mut next = job.clone();
    next.earlier = earlier(state, service, slots, context, &mut plan);
    let kept = make_way(service, slots, &next, now, &mut plan);
    next.earlier.retain(|run| run.ended_at.is_none() || kept.contains(&run.run));
    if job.run > 0 && !is_put_away(service, job.ended_at, now) {
        next.ended_at = Run { state, service, job, now }.carry_on(slots, context, &mut plan).then_some(now);
        // It ended when it was first seen to have.
        next.ended_at = next.ended_at.map(|now| job.ended_at.unwrap_or(now));
    }
    note(service, job, next, now, &mut plan);
    plan
}

/// Carries on the runs before the present one, and tells how they stand then.
fn earlier(
    state: &State,
    service: &Service,
    slots: &[SlotTasks],
    context: &mut PlanContext<'_>,
    plan: &mut Plan,
) -> Vec<EarlierRun> {
    let now = context.present(state);
    let runs: &[EarlierRun] = service.job.as_ref().map_or(&[], |job| &job.earlier);
    let mut runs = runs.to_vec();
    for run in &mut runs {
        if run.ended_at.is_none() {
            let is_over = !may_overlap(service) || {
                // As if it were the present one: what is made then belongs to it.
                let (number, started_at) = (run.run, run.started_at);
                let job = JobStatus { run: number, started_at, ..JobStatus::default() };
                let as_then = Service { job: Some(job.clone()), ..service.clone() };
                Run { state, service: &as_then, job: &job, now }.carry_on(slots, context, plan)
            };
            run.ended_at = is_over.then_some(now);
        }
    }
    runs
}

/// Whether what a run by the clock left behind has been kept for long enough.
fn is_put_away(service: &Service, ended_at: Option<Timestamp>, now: Timestamp) -> bool {
    put_away_at(service, ended_at).is_some_and(|until| until <= now)
}

fn put_away_at(service: &Service, ended_at: Option<Timestamp>) -> Option<Timestamp> {
    let scheduled = service.spec.job.schedule.is_some();
    let ttl = service.spec.job.time_to_live.filter(|_| scheduled)?;
    ended_at.map(|ended| ended.after(ttl))
}

/// Comes last in the plan: it raises the service's version, which the tasks made before it name.
fn note(service: &Service, job: &JobStatus, next: JobStatus, now: Timestamp, plan: &mut Plan) {
    let (id, expected) = (service.id, service.version);
    let ends = next.earlier.iter().map(|run| run.ended_at).chain([next.ended_at]);
    ends.filter_map(|end| put_away_at(service, end)).filter(|at| *at > now).for_each(|at| plan.wake(at));
    if next != *job {
        plan.changes.push(Change::SetJobStatus { service: id, expected, job: next });
        return;
    }
    let ttl = service.spec.job.time_to_live.filter(|_| service.spec.job.schedule.is_none());
    if let (Some(ended), Some(ttl)) = (next.ended_at, ttl) {
        let until = ended.after(ttl);
        if until <= now {
            plan.changes.push(Change::RemoveService { service: id, expected });
        } else {
            plan.wake(until);
        }
    }
}

/// What the present run has come to.
pub(crate) fn counts(state: &State, service: &Service, slots: &[SlotTasks], now: Timestamp) -> RunCounts {
    let Some(job) = present_run(service, now) else { return RunCounts::default() };
    let run = Run { state, service, job, now };
    run.counts(&run.needs(slots))
}

/// Why slots of the present run will not be done.
pub(crate) fn failures(state: &State, service: &Service, slots: &[SlotTasks], now: Timestamp) -> Vec<String> {
    let Some(job) = present_run(service, now) else { return Vec::new() };
    let run = Run { state, service, job, now };
    let failed = run.needs(slots).into_values().filter_map(|(_, need)| match need {
        Need::Failed(reason) => Some(reason),
        _ => None,
    });
    failed.collect()
}

/// The present run, if there is one whose tasks are kept.
fn present_run(service: &Service, now: Timestamp) -> Option<&JobStatus> {
    service.job.as_ref().filter(|job| job.run > 0 && !is_put_away(service, job.ended_at, now))
}

/// A due time that is longer ago than this, because no manager could plan, is left out.
const CATCH_UP: Duration = Duration::from_secs(600);

/// What runs by the clock: the next run, or the note that a due one is left out. Of several due times that were missed only the
/// last counts.
fn begin_when_due(service: &Service, job: &JobStatus, now: Timestamp, plan: &mut Plan) -> Option<Change> {
    let schedule = service.spec.job.schedule.as_ref()?;
    let (Ok(cron), Ok(zone)) = (schedule.cron.parse::<Cron>(), time_zone(&schedule.timezone)) else {
        // Checked when the service was written; a zone may be unknown to an older program.
        let reason = format!("schedule {:?} in {:?} cannot be read", schedule.cron, schedule.timezone);
        plan.waiting.push(Waiting { service: service.id, slot: None, tasks: 0, reason });
        return None;
    };
    let missed = Timestamp::from_nanos(now.as_nanos().saturating_sub(nanos(CATCH_UP)));
    let mut due = None;
    let mut next = cron.next_after(job.scheduled_until.max(missed), &zone)?;
    while next <= now {
        due = Some(next);
        next = cron.next_after(next, &zone)?;
    }
    let Some(due) = due else {
        plan.wake(next);
        return None;
    };
    let open = job.run > 0 && job.ended_at.is_none();
    let left_out = match schedule.concurrency {
        Concurrency::Forbid => open,
        Concurrency::Allow => job.is_full(),
        Concurrency::Replace => false,
    };
    let job = if left_out { job.clone() } else { job.next(now, Some(schedule)) };
    let job = JobStatus { scheduled_until: due, ..job };
    Some(Change::SetJobStatus { service: service.id, expected: service.version, job })
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Whether runs may go on beside later ones.
fn may_overlap(service: &Service) -> bool {
    let schedule = service.spec.job.schedule.as_ref();
    schedule.is_some_and(|schedule| schedule.concurrency == Concurrency::Allow)
}

/// Tasks of earlier runs are taken away, unless their run goes on or history is kept; so are those of a present run that has been
/// over for long enough. The answer is which runs have tasks that stay.
fn make_way(
    service: &Service,
    slots: &[SlotTasks],
    job: &JobStatus,
    now: Timestamp,
    plan: &mut Plan,
) -> BTreeSet<u64> {
    let mut staying = BTreeSet::new();
    let overlap = may_overlap(service);
    let kept = service.spec.job.schedule.as_ref().map_or(0, |schedule| u64::from(schedule.history));
    let put_away = is_put_away(service, job.ended_at, now);
    for task in slots.iter().flat_map(|slot| &slot.tasks) {
        let unwanted = if task.run >= job.run {
            put_away
        } else if !task.status.state.is_terminal() {
            !overlap
        } else {
            let run = job.earlier.iter().find(|run| run.run == task.run);
            let ended_at = run.and_then(|run| run.ended_at);
            let goes_on = run.is_some() && ended_at.is_none();
            !goes_on && (task.run + kept < job.run || is_put_away(service, ended_at, now))
        };
        if task.desired == DesiredState::Remove {
            continue;
        }
        if unwanted {
            raise(task, DesiredState::Remove, service.version, plan);
        } else {
            staying.insert(task.run);
        }
    }
    staying
}
