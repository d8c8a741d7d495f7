//! The restart policy: whether a slot whose task ended is filled again.
//!
//! Nothing is remembered: attempts are counted from the tasks that the store holds, and the reaper leaves
//! those that count (`reap.rs`). So every leader comes to the same number.

use std::sync::Arc;
use std::time::Duration;

use coracle_model::restart::{RestartCondition, RestartPolicy};
use coracle_model::service::Service;
use coracle_model::task::{DesiredState, Task, TaskState};
use coracle_model::time::Timestamp;

use super::slot::SlotTasks;
use crate::state::State;

/// Whether the task ended of its own accord, as opposed to being stopped or lost.
pub(super) fn ended_by_itself(task: &Task) -> bool {
    match task.status.state {
        TaskState::Complete | TaskState::Failed | TaskState::Rejected => true,
        // Somebody stopped it behind the managers' back.
        TaskState::Shutdown => task.desired <= DesiredState::Running,
        _ => false,
    }
}

/// Whether a task made of the specification that this task has is what the service wants now.
#[must_use]
pub fn is_up_to_date(state: &State, service: &Service, task: &Task) -> bool {
    task.spec_version == service.spec_version
        || state
            .task_spec(service.id, task.spec_version)
            .is_some_and(|spec| spec.also_satisfies(&service.spec.task))
}

/// Why the slot whose newest task ended must stay empty; nothing when it may be filled again.
pub(super) fn refusal(
    state: &State,
    service: &Service,
    slot: &SlotTasks,
    ended: &Task,
    now: Timestamp,
) -> Option<String> {
    let policy = &service.spec.task.restart;
    match (policy.condition, ended.status.state) {
        // What has done its work is never done again.
        (_, TaskState::Complete) if service.spec.mode.is_job() => {
            return Some("it completed".to_owned());
        }
        (RestartCondition::None, _) => return Some("it ended and the restart condition is none".to_owned()),
        (RestartCondition::OnFailure, TaskState::Complete) => {
            return Some("it completed and the restart condition is on-failure".to_owned());
        }
        _ => {}
    }
    let made = attempts(state, service, slot, ended, now);
    (policy.max_attempts > 0 && made >= policy.max_attempts)
        .then(|| format!("restart-max-attempts ({}) is reached", policy.max_attempts))
}

/// Whether the slot stays as it is because its task ended and the policy wants no other.
pub(crate) fn is_settled(state: &State, service: &Service, slot: &SlotTasks) -> bool {
    slot.live().is_none()
        && slot.newest().is_some_and(|task| {
            task.desired == DesiredState::Shutdown
                && ended_by_itself(task)
                && is_up_to_date(state, service, task)
        })
}

/// Why a slot that [`is_settled`] has a task that failed and gets no other; nothing where it did what it should.
pub(crate) fn why_settled(state: &State, service: &Service, slot: &SlotTasks) -> Option<String> {
    let ended = slot.newest().filter(|task| task.status.state != TaskState::Complete)?;
    let reason = refusal(state, service, slot, ended, state.time());
    Some(format!("not started again: {}", reason.as_deref().unwrap_or(SETTLED)))
}

/// What is said where the policy of today would start the task again, and the one of then did not.
pub(super) const SETTLED: &str = "it ended, and its restart policy wanted no other then";

/// A task that ran for less than this crashed.
const SOON: Duration = Duration::from_secs(10);
/// Crashes in a row after which the delay of the policy is no longer all.
const PATIENCE: u32 = 3;
/// Longest wait of a crash loop, unless the policy's own delay is longer.
const LONGEST: Duration = Duration::from_secs(300);

/// Crashes in a row, this task's end included.
pub(super) fn crashes_after(state: &State, service: &Service, task: &Task) -> u32 {
    let ran = task.running_since.map_or(Duration::ZERO, |since| task.status.since.since(since));
    if ended_by_itself(task) && ran < SOON && is_up_to_date(state, service, task) {
        task.crashes.saturating_add(1)
    } else {
        0
    }
}

/// The wait before the successor of a task that ended: the policy's, and longer in a crash loop.
pub(super) fn delay_after(state: &State, service: &Service, ended: &Task) -> Duration {
    let delay = service.spec.task.restart.delay;
    let beyond = crashes_after(state, service, ended).saturating_sub(PATIENCE);
    if beyond == 0 {
        return delay;
    }
    let first = delay.max(Duration::from_secs(1));
    let longer = first.saturating_mul(1 << beyond.min(16));
    longer.min(LONGEST).max(delay)
}

/// How often the slot was filled again after an end, within the window.
fn attempts(state: &State, service: &Service, slot: &SlotTasks, ended: &Task, now: Timestamp) -> u64 {
    let policy = &service.spec.task.restart;
    let relevant: Vec<&Arc<Task>> = slot
        .tasks
        .iter()
        .filter(|task| task.created_at <= ended.created_at && is_up_to_date(state, service, task))
        .collect();
    let replacements = relevant.windows(2).filter(|pair| ended_by_itself(pair[0]));
    let counted = replacements.filter(|pair| is_within(policy, pair[1].created_at, now)).count() as u64;
    // Starts that the agent made on its own, while there was no manager to ask, were attempts too.
    let on_its_own: u64 = relevant
        .iter()
        .filter(|task| is_within(policy, task.status.since, now))
        .map(|task| u64::from(task.status.local_restarts))
        .sum();
    counted + on_its_own
}

fn is_within(policy: &RestartPolicy, at: Timestamp, now: Timestamp) -> bool {
    policy.window == Duration::ZERO || now.since(at) <= policy.window
}

/// The tasks of the slot that must be kept so that attempts are counted right.
pub(super) fn kept_for_counting(state: &State, service: &Service, slot: &SlotTasks) -> Vec<Arc<Task>> {
    let most = service.spec.task.restart.max_attempts;
    if most == 0 {
        return Vec::new();
    }
    let kept = usize::try_from(most.saturating_add(1)).unwrap_or(usize::MAX);
    let counts = |task: &&Arc<Task>| ended_by_itself(task) && is_up_to_date(state, service, task);
    slot.tasks.iter().rev().filter(counts).take(kept).cloned().collect()
}
