//! The planner of one service: judges each slot, then gives the result to the service's mode.

use std::sync::Arc;
use std::time::Duration;

use coracle_model::id::ServiceId;
use coracle_model::service::{Service, ServiceMode};
use coracle_model::task::{DesiredState, Task, TaskState};
use coracle_model::time::Timestamp;

use super::slot::{SlotTasks, give_up};
use super::{fit, global, replicated, restart, slots_of};
use crate::change::Change;
use crate::plan::{Plan, PlanContext, Waiting};
use crate::state::State;

/// What has to happen to the tasks of a service: slots to fill, to replace and to clear, the next step of
/// an update. A service that was removed has all of its tasks removed.
#[must_use]
pub fn plan_service(state: &State, id: ServiceId, context: &mut PlanContext<'_>) -> Plan {
    let slots = slots_of(state, id);
    match state.service(id) {
        None => {
            let mut plan = Plan::default();
            slots.iter().for_each(|slot| slot.clear(&mut plan));
            plan
        }
        Some(service) => match service.spec.mode {
            ServiceMode::Replicated { replicas } => {
                replicated::plan(state, service, slots, replicas, context)
            }
            ServiceMode::Global => global::plan(state, service, slots, context),
            // Jobs are planned nowhere yet: the command line and the API refuse them.
            ServiceMode::ReplicatedJob { .. } | ServiceMode::GlobalJob => Plan::default(),
        },
    }
}

/// How long the scheduler has to place a task before an update goes on without it.
const STUCK_AFTER: Duration = Duration::from_secs(10);
/// Least wait before the successor of a rejected task.
const REJECTED_DELAY: Duration = Duration::from_secs(1);

/// What a slot needs.
#[derive(Debug, Clone)]
pub(super) enum Verdict {
    /// Nothing; it runs or is on its way.
    Fine,
    /// Its task waits for its restart delay.
    Delayed(Timestamp),
    /// Its task may be wanted running now.
    Start(Arc<Task>),
    /// A new task, instead of this one if there is one.
    Refill(Option<Arc<Task>>, Duration),
    /// Its task ended, and the restart policy wants no other.
    Ended(Arc<Task>, String),
    /// Its task is of an older specification.
    Outdated(Arc<Task>),
}

/// What a slot that is wanted needs.
pub(super) fn judge(state: &State, service: &Service, slot: &SlotTasks, now: Timestamp) -> Verdict {
    match (slot.live(), slot.newest()) {
        (Some(live), _) => judge_live(state, service, slot, live, now),
        (None, Some(ended)) => judge_ended(state, service, slot, ended, now),
        (None, None) => Verdict::Refill(None, Duration::ZERO),
    }
}

fn judge_live(
    state: &State,
    service: &Service,
    slot: &SlotTasks,
    live: &Arc<Task>,
    now: Timestamp,
) -> Verdict {
    let at_once = || Verdict::Refill(Some(Arc::clone(live)), Duration::ZERO);
    if live.node.is_some_and(|node| !fit::keeps(state, &service.spec.task, node)) {
        return at_once();
    }
    if !restart::is_up_to_date(state, service, live) {
        // Nothing is lost with a task that has no node; it is no step of an update.
        return if live.node.is_none() { at_once() } else { Verdict::Outdated(Arc::clone(live)) };
    }
    match live.start_after {
        _ if live.desired != DesiredState::Ready => Verdict::Fine,
        Some(at) if at > now => Verdict::Delayed(at),
        _ if slot.may_run_beside(state, Some(live)) => Verdict::Fine,
        _ => Verdict::Start(Arc::clone(live)),
    }
}

/// The restart delay; what cannot even be prepared is not tried again at once, whatever the delay is.
fn refill_delay(delay: Duration, ended: &Task) -> Duration {
    if ended.status.state == TaskState::Rejected { delay.max(REJECTED_DELAY) } else { delay }
}

fn judge_ended(
    state: &State,
    service: &Service,
    slot: &SlotTasks,
    ended: &Arc<Task>,
    now: Timestamp,
) -> Verdict {
    let policy = &service.spec.task.restart;
    let given_up = ended.desired > DesiredState::Running;
    let outdated = !restart::is_up_to_date(state, service, ended);
    match (given_up, restart::ended_by_itself(ended)) {
        // It ended and was given up without a replacement: the policy said so, for what the service was then.
        (true, true) if !outdated => Verdict::Ended(
            Arc::clone(ended),
            restart::refusal(state, service, slot, ended, now)
                .unwrap_or_else(|| "it ended, and its restart policy wanted no other then".to_owned()),
        ),
        (false, true) => match restart::refusal(state, service, slot, ended, now) {
            Some(reason) if !outdated => Verdict::Ended(Arc::clone(ended), reason),
            // It was rejected while it was prepared: its successor waits for the rest of its delay first.
            _ => match ended.start_after.filter(|at| *at > now && !outdated) {
                Some(at) => Verdict::Delayed(at),
                None => Verdict::Refill(Some(Arc::clone(ended)), refill_delay(policy.delay, ended)),
            },
        },
        // Lost with its node, or stopped without a replacement.
        _ => Verdict::Refill(Some(Arc::clone(ended)), Duration::ZERO),
    }
}

/// Carries out what every mode does alike.
pub(super) fn carry_out(
    state: &State,
    service: &Service,
    slot: &SlotTasks,
    verdict: &Verdict,
    context: &mut PlanContext<'_>,
    plan: &mut Plan,
) {
    match verdict {
        Verdict::Fine | Verdict::Outdated(_) => {}
        Verdict::Delayed(at) => plan.wake(*at),
        Verdict::Start(task) => {
            plan.changes.push(Change::RaiseDesired { task: task.id, desired: DesiredState::Running });
        }
        Verdict::Refill(given_up, delay) => {
            slot.refill(state, service, given_up.as_deref(), *delay, context, plan);
        }
        Verdict::Ended(task, reason) => {
            give_up(task, plan);
            let reason = format!("not started again: {reason}");
            plan.waiting.push(Waiting { service: service.id, slot: Some(slot.slot), tasks: 1, reason });
        }
    }
}

/// Whether the slot's replacement is under way after this plan, so that the next one must wait for it.
///
/// Only slots count whose task took the place of one that had a node: a slot that is new, or that never
/// found a node, makes nobody wait.
pub(super) fn is_in_flight(
    state: &State,
    service: &Service,
    slot: &SlotTasks,
    verdict: &Verdict,
    now: Timestamp,
) -> bool {
    match verdict {
        Verdict::Start(task) => is_starting(task) && slot.predecessor().is_some(),
        Verdict::Fine | Verdict::Delayed(_) => {
            !slot.is_running(state)
                && slot.predecessor().is_some()
                && stuck_at(state, service, slot).is_none_or(|at| at > now)
        }
        Verdict::Refill(_, _) => slot.tasks.iter().any(|task| task.node.is_some()),
        Verdict::Ended(_, _) | Verdict::Outdated(_) => false,
    }
}

/// From when on a slot that finds no node makes nobody wait, if it did not run before the update either.
pub(super) fn stuck_at(state: &State, service: &Service, slot: &SlotTasks) -> Option<Timestamp> {
    let (live, before) = (slot.live()?, slot.predecessor()?);
    let failed_before = restart::ended_by_itself(before) && !restart::is_up_to_date(state, service, before);
    (live.node.is_none() && failed_before).then(|| live.created_at.after(STUCK_AFTER))
}

/// Whether a task is on its way up: wanted, and not running yet.
pub(super) fn is_starting(task: &Task) -> bool {
    task.status.state < TaskState::Running
}
