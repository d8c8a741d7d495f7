//! The planner of one service: judges each slot, then gives the result to the service's mode.

use std::sync::Arc;
use std::time::Duration;

use coracle_model::id::{ServiceId, TaskId};
use coracle_model::rollout::{Order, UpdateConfig};
use coracle_model::service::{Service, ServiceMode};
use coracle_model::task::{DesiredState, Task, TaskState};
use coracle_model::time::Timestamp;
use coracle_model::version::Version;

use super::slot::{SlotTasks, give_up, start};
use super::successor::{self, wanted_no_more};
use super::{fit, global, job, replicated, restart, slots_of};
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
            slots.iter().for_each(|slot| slot.clear(Version::default(), &mut plan));
            plan
        }
        Some(service) => match service.spec.mode {
            ServiceMode::Replicated { replicas } => {
                replicated::plan(state, service, slots, replicas, context)
            }
            ServiceMode::Global => global::plan(state, service, slots, context),
            ServiceMode::ReplicatedJob { .. } | ServiceMode::GlobalJob => {
                job::plan(state, service, &slots, context)
            }
        },
    }
}

/// How long the scheduler has to place a task before an update goes on without it.
const STUCK_AFTER: Duration = Duration::from_secs(10);
/// How long the scheduler has to place a task beside the one that it replaces before that one has to make room.
const NO_ROOM_BESIDE: Duration = Duration::from_secs(3);
/// Least wait before the successor of a rejected task.
const REJECTED_DELAY: Duration = Duration::from_secs(1);

/// What a slot needs.
#[derive(Debug, Clone)]
pub(super) struct Judged {
    /// What has to happen.
    pub(super) verdict: Verdict,
    /// Tasks that are wanted in the slot besides and must go now.
    pub(super) relieved: Vec<Arc<Task>>,
}

/// What has to happen in a slot.
#[derive(Debug, Clone)]
pub(super) enum Verdict {
    /// Nothing; it runs or is on its way.
    Fine,
    /// Its task waits: for its restart delay, or for a node that may come back.
    Delayed(Timestamp),
    /// Its task may be wanted running now.
    Start(Arc<Task>),
    /// A new task, instead of this one if there is one.
    Refill(Option<Arc<Task>>, Duration),
    /// A new task beside this one, which has to leave its node.
    Move(Arc<Task>),
    /// Its task ended, and the restart policy wants no other.
    Ended(Arc<Task>, String),
    /// Its task is of an older specification.
    Outdated(Arc<Task>),
}

impl From<Verdict> for Judged {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, relieved: Vec::new() }
    }
}

/// What a slot that is wanted needs.
pub(super) fn judge(state: &State, service: &Service, slot: &SlotTasks, now: Timestamp) -> Judged {
    let live: Vec<&Arc<Task>> = slot.tasks.iter().rev().filter(|task| task.is_live()).collect();
    match (live.as_slice(), slot.newest()) {
        ([], Some(newest)) => {
            // A task that failed beside the one that held the slot until now says nothing of the slot.
            let ended = slot.unjudged().unwrap_or(newest);
            let verdict = judge_ended(state, service, slot, ended, now);
            Judged { verdict, relieved: wanted_no_more(slot, Some(ended.id)).cloned().collect() }
        }
        ([], None) => Verdict::Refill(None, Duration::ZERO).into(),
        (live, _) => judge_live(state, service, slot, live, now),
    }
}

/// How a task that holds a slot stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// As it should be.
    Fit,
    /// On a node that is gone and may come back until then.
    Awaited(Timestamp),
    /// Its node is being drained.
    Draining,
    /// Of an older specification, or where the present one does not want it.
    Outdated,
    /// It cannot stay.
    Unfit,
}

fn standing(state: &State, service: &Service, task: &Task, now: Timestamp) -> Standing {
    let up_to_date = restart::is_up_to_date(state, service, task);
    match fit::standing(state, service, task, now) {
        Some(fit::Standing::Leaves) => Standing::Unfit,
        Some(fit::Standing::AwaitedUntil(until)) => Standing::Awaited(until),
        Some(fit::Standing::Draining) => Standing::Draining,
        Some(fit::Standing::Keeps) | None if up_to_date => Standing::Fit,
        Some(fit::Standing::Keeps | fit::Standing::Excluded) => Standing::Outdated,
        // Nothing is lost with a task that has no node; it is no step of an update.
        None => Standing::Unfit,
    }
}

/// The newest task that is as it should be holds the slot; without one, the one that is most worth keeping for a while.
fn judge_live(
    state: &State,
    service: &Service,
    slot: &SlotTasks,
    live: &[&Arc<Task>],
    now: Timestamp,
) -> Judged {
    let rank = |task: &Arc<Task>| {
        let standing = standing(state, service, task, now);
        let kind = match standing {
            Standing::Fit => 0,
            Standing::Awaited(_) => 1,
            Standing::Draining | Standing::Outdated => 2,
            Standing::Unfit => 3,
        };
        // One that runs, unless another was made to take its place although it could stay; of several the newest.
        let comes = kind == 0 && moved_to(service) == Some(task.id);
        (kind, !comes && !task.is_running(), standing)
    };
    let Some((_, holder)) = live.iter().enumerate().min_by_key(|(age, task)| (rank(task), *age)) else {
        return Verdict::Fine.into();
    };
    let others = live.iter().filter(|task| task.id != holder.id);
    let (_, _, standing) = rank(holder);
    let draining = live.iter().any(|task| rank(task).2 == Standing::Draining);
    let waits = standing == Standing::Fit && waits_for(state, service, holder, draining, now);
    // What runs is not stopped for one that runs nowhere, as far as anybody knows.
    let stays_one = waits || matches!(standing, Standing::Awaited(_));
    let stays = |task: &Arc<Task>| stays_one && task.is_running() && !matches!(rank(task).2, Standing::Unfit);
    // How the last successor ended is looked at by whoever wanted one.
    let tried = match standing {
        Standing::Draining | Standing::Outdated => {
            successor::attempt(state, service, slot).map(|task| task.id)
        }
        _ => moved_to(service),
    };
    let leaving = others.copied().filter(|task| !stays(task)).chain(wanted_no_more(slot, tried));
    let relieved: Vec<Arc<Task>> = leaving.cloned().collect();
    let verdict = match standing {
        // What goes in this very write still runs when the holder would begin.
        Standing::Fit if relieved.is_empty() => judge_start(state, slot, holder, waits, now),
        Standing::Fit => judge_start(state, &slot.clone().without(&relieved), holder, waits, now),
        Standing::Awaited(until) => Verdict::Delayed(until),
        Standing::Draining if goes_after(service, holder) => Verdict::Move(Arc::clone(holder)),
        Standing::Draining | Standing::Unfit => Verdict::Refill(Some(Arc::clone(holder)), Duration::ZERO),
        Standing::Outdated => Verdict::Outdated(Arc::clone(holder)),
    };
    Judged { verdict, relieved }
}

/// Whether the successor of a task is to run before it goes.
pub(super) fn goes_after(service: &Service, task: &Task) -> bool {
    config(service).order == Order::StartFirst && task.is_running()
}

/// The rules in force: the rollback's while a rollback is under way.
pub(super) fn config(service: &Service) -> &UpdateConfig {
    let rollback = service.update.as_ref().is_some_and(|update| update.state.is_rollback());
    if rollback { &service.spec.rollback } else { &service.spec.update }
}

/// The task that a rebalance wants in place of another.
fn moved_to(service: &Service) -> Option<TaskId> {
    Some(service.rebalance.as_ref()?.moving?.to)
}

/// Whether the tasks that the holder of a slot replaces stay until it runs. A drained node is patient: nothing is lost by it.
fn waits_for(state: &State, service: &Service, holder: &Task, draining: bool, now: Timestamp) -> bool {
    let config = config(service);
    let runs = holder.is_running() && holder.node.is_some_and(|node| !state.is_node_lost(node));
    // Whoever moves tasks gives up the new one if it takes too long, never the old one.
    if moved_to(service) == Some(holder.id) {
        return !runs;
    }
    let too_long = !config.timeout.is_zero() && now.since(holder.created_at) > config.timeout;
    let no_room = !draining && holder.node.is_none() && now.since(holder.created_at) >= NO_ROOM_BESIDE;
    config.order == Order::StartFirst && !runs && !too_long && !no_room
}

/// When [`waits_for`] may come to another answer by itself.
fn wakes_at(service: &Service, slot: &SlotTasks, now: Timestamp) -> Option<Timestamp> {
    let mut live = slot.tasks.iter().rev().filter(|task| task.is_live());
    let holder = live.next()?;
    live.next()?;
    let timeout = config(service).timeout;
    let no_room = holder.node.is_none().then(|| holder.created_at.after(NO_ROOM_BESIDE));
    let too_long = (!timeout.is_zero()).then(|| holder.created_at.after(timeout + Duration::from_millis(1)));
    no_room.into_iter().chain(too_long).filter(|at| *at > now).min()
}

/// Whether the holder of a slot may begin: beside those that are to stay until it runs, never beside those that are stopping.
fn judge_start(state: &State, slot: &SlotTasks, holder: &Arc<Task>, beside: bool, now: Timestamp) -> Verdict {
    let taken = if beside { slot.is_leaving(state) } else { slot.may_run_beside(state, Some(holder)) };
    match holder.start_after {
        _ if holder.desired != DesiredState::Ready => Verdict::Fine,
        Some(at) if at > now => Verdict::Delayed(at),
        _ if taken => Verdict::Fine,
        _ => Verdict::Start(Arc::clone(holder)),
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
    let given_up = ended.desired > DesiredState::Running;
    let outdated = !restart::is_up_to_date(state, service, ended);
    match (given_up, restart::ended_by_itself(ended)) {
        // It ended and was given up without a replacement: the policy said so, for what the service was then.
        (true, true) if !outdated => Verdict::Ended(
            Arc::clone(ended),
            restart::refusal(state, service, slot, ended, now).unwrap_or_else(|| restart::SETTLED.to_owned()),
        ),
        (false, true) => match restart::refusal(state, service, slot, ended, now) {
            Some(reason) if !outdated => Verdict::Ended(Arc::clone(ended), reason),
            // It was rejected while it was prepared: its successor waits for the rest of its delay first.
            _ => match ended.start_after.filter(|at| *at > now && !outdated) {
                Some(at) => Verdict::Delayed(at),
                None => {
                    let delay = restart::delay_after(state, service, ended);
                    Verdict::Refill(Some(Arc::clone(ended)), refill_delay(delay, ended))
                }
            },
        },
        // Lost with its node, or stopped without a replacement.
        _ => Verdict::Refill(Some(Arc::clone(ended)), Duration::ZERO),
    }
}

/// Gives up tasks that hold a slot besides the one that should.
pub(super) fn relieve(tasks: &[Arc<Task>], service: &Service, plan: &mut Plan) {
    tasks.iter().for_each(|task| give_up(task, service, plan));
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
    let now = context.present(state);
    if let Some(at) = wakes_at(service, slot, now) {
        plan.wake(at);
    }
    match verdict {
        Verdict::Fine | Verdict::Outdated(_) => {}
        Verdict::Delayed(at) => plan.wake(*at),
        Verdict::Start(task) => start(task, service, plan),
        Verdict::Refill(given_up, delay) => {
            slot.refill(state, service, given_up.as_deref(), *delay, context, plan);
        }
        Verdict::Move(task) => successor::leave(state, service, slot, task, context, plan),
        Verdict::Ended(task, reason) => {
            give_up(task, service, plan);
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
    let waited_for =
        || slot.predecessor().is_some() && stuck_at(state, service, slot).is_none_or(|at| at > now);
    match verdict {
        Verdict::Start(task) => is_starting(task) && waited_for(),
        Verdict::Fine | Verdict::Delayed(_) => !slot.is_running(state) && waited_for(),
        Verdict::Refill(_, _) | Verdict::Move(_) => slot.tasks.iter().any(|task| task.node.is_some()),
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
