//! A successor for a task that still holds its slot: beside it or in its place, at once or after one that failed.

use std::sync::Arc;
use std::time::Duration;

use coracle_model::id::TaskId;
use coracle_model::service::Service;
use coracle_model::task::{DesiredState, Task, TaskState};
use coracle_model::time::Timestamp;

use super::restart;
use super::service::{config, goes_after};
use super::slot::{SlotTasks, give_up};
use crate::plan::{Plan, PlanContext};
use crate::state::State;

/// The last new task that ended of its own accord while the one that holds the slot went on.
pub(super) fn attempt<'a>(state: &State, service: &Service, slot: &'a SlotTasks) -> Option<&'a Arc<Task>> {
    let newest = slot.newest()?;
    let ended = restart::ended_by_itself(newest);
    (ended && restart::is_up_to_date(state, service, newest)).then_some(newest)
}

/// Begins a successor as the order says; after one that failed as the restart policy says. The answer is why there is none.
pub(super) fn begin(
    state: &State,
    service: &Service,
    slot: &SlotTasks,
    holder: &Task,
    context: &mut PlanContext<'_>,
    plan: &mut Plan,
) -> Result<(), String> {
    let delay = delay(state, service, slot, context.present(state))?;
    give_up_attempt(state, service, slot, plan);
    if goes_after(service, holder) {
        slot.fill_beside(state, service, holder, delay, context, plan);
    } else {
        slot.refill(state, service, Some(holder), delay, context, plan);
    }
    Ok(())
}

/// A successor for a task that has to leave its node. Where successors fail for longer than an update may take, or are not
/// tried again, the task does not wait for one: a drain comes to its end.
pub(super) fn leave(
    state: &State,
    service: &Service,
    slot: &SlotTasks,
    holder: &Task,
    context: &mut PlanContext<'_>,
    plan: &mut Plan,
) {
    let (now, timeout) = (context.present(state), config(service).timeout);
    let too_late = !timeout.is_zero()
        && tried_since(state, service, slot, holder, now).is_some_and(|since| now.since(since) > timeout);
    match delay(state, service, slot, now) {
        Err(_) => give_up(holder, service, plan),
        Ok(delay) if too_late => slot.refill(state, service, Some(holder), delay, context, plan),
        Ok(delay) => slot.fill_beside(state, service, holder, delay, context, plan),
    }
    give_up_attempt(state, service, slot, plan);
}

/// How long the next successor waits, or why there is no other after one that failed.
fn delay(state: &State, service: &Service, slot: &SlotTasks, now: Timestamp) -> Result<Duration, String> {
    let Some(failed) = attempt(state, service, slot) else { return Ok(Duration::ZERO) };
    match restart::refusal(state, service, slot, failed, now) {
        Some(reason) => Err(format!("the new task failed, and {reason}")),
        None => Ok(restart::delay_after(state, service, failed)),
    }
}

/// Nobody looks at it again once there is another, or none is wanted.
fn give_up_attempt(state: &State, service: &Service, slot: &SlotTasks, plan: &mut Plan) {
    if let Some(failed) = attempt(state, service, slot) {
        give_up(failed, service, plan);
    }
}

/// When the first of the successors was made that have been tried one after the other until now. What failed longer ago than the
/// time-out belongs to something else.
fn tried_since(
    state: &State,
    service: &Service,
    slot: &SlotTasks,
    holder: &Task,
    now: Timestamp,
) -> Option<Timestamp> {
    let successors = slot.tasks.iter().rev().filter(|task| task.created_at > holder.created_at);
    let (mut since, mut next) = (None, now);
    for task in successors.filter(|task| restart::is_up_to_date(state, service, task)) {
        if next.since(task.status.since) > config(service).timeout {
            break;
        }
        (since, next) = (Some(task.created_at), task.created_at);
    }
    since
}

/// Tasks that ended and are still said to be wanted, without the one whose end is yet to be judged.
///
/// One that was stopped is not among them: only from its being wanted it is known that it was not the managers who stopped it.
pub(super) fn wanted_no_more(slot: &SlotTasks, judged: Option<TaskId>) -> impl Iterator<Item = &Arc<Task>> {
    let ended = |task: &Task| {
        matches!(task.status.state, TaskState::Complete | TaskState::Failed | TaskState::Rejected)
    };
    slot.tasks
        .iter()
        .filter(move |task| task.desired <= DesiredState::Running && ended(task) && Some(task.id) != judged)
}
