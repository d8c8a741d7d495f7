//! Deleting records of tasks that nobody needs any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use coracle_model::id::{ServiceId, TaskId};
use coracle_model::service::Service;
use coracle_model::task::{DesiredState, Task, TaskState};

use super::slot::SlotTasks;
use super::{restart, slots_of};
use crate::change::Change;
use crate::plan::{Plan, PlanContext};
use crate::state::State;

/// Which records of a service's tasks to delete: those wanted removed that run nowhere, and ended ones
/// beyond the history limit.
#[must_use]
pub fn plan_reap(state: &State, id: ServiceId, _context: &mut PlanContext<'_>) -> Plan {
    let service = state.service(id);
    let mut plan = Plan::default();
    for slot in slots_of(state, id) {
        let removed =
            slot.tasks.iter().filter(|task| task.desired == DesiredState::Remove && !task.may_run());
        plan.changes.extend(removed.map(|task| Change::RemoveTask { task: task.id }));
        if let Some(service) = service {
            let surplus = runs_of(&slot).into_iter().flat_map(|run| beyond_history(state, service, &run));
            plan.changes.extend(surplus.map(|task| Change::RemoveTask { task }));
        }
    }
    plan
}

/// The slot in each run of a job, since runs know nothing of each other; services that go on have one.
fn runs_of(slot: &SlotTasks) -> Vec<SlotTasks> {
    let mut runs: BTreeMap<u64, SlotTasks> = BTreeMap::new();
    for task in &slot.tasks {
        let of = runs.entry(task.run).or_insert_with(|| SlotTasks { slot: slot.slot, tasks: Vec::new() });
        of.tasks.push(Arc::clone(task));
    }
    runs.into_values().collect()
}

/// The oldest ended tasks beyond the limit.
///
/// The newest task of a slot always stays, since it tells whether the slot is to be filled; so do tasks of
/// jobs that completed, whatever was made of the slot meanwhile, tasks that count as attempts, and the predecessor of a task that does not run yet, by which an update knows
/// that a slot is being replaced.
fn beyond_history(state: &State, service: &Service, slot: &SlotTasks) -> Vec<TaskId> {
    let Some(limit) = limit(state, service) else { return Vec::new() };
    let limit = if slot.is_running(state) { limit.max(1) } else { limit.max(2) };
    let kept: Vec<_> = slot.tasks.iter().filter(|task| task.desired < DesiredState::Remove).collect();
    let counting: BTreeSet<TaskId> =
        restart::kept_for_counting(state, service, slot).iter().map(|task| task.id).collect();
    let newest = slot.newest().map(|task| task.id);
    let is_job = service.spec.mode.is_job();
    let deletable = |task: &Task| {
        task.desired == DesiredState::Shutdown
            && task.status.state.is_terminal()
            && Some(task.id) != newest
            && !counting.contains(&task.id)
            && !(is_job && task.status.state == TaskState::Complete)
    };
    let surplus = kept.len().saturating_sub(limit);
    kept.into_iter().filter(|task| deletable(task)).map(|task| task.id).take(surplus).collect()
}

/// Tasks kept per slot, the live one included; none when all are kept.
fn limit(state: &State, service: &Service) -> Option<usize> {
    let attempts = service.spec.task.restart.max_attempts;
    if attempts > 0 {
        return Some(usize::try_from(attempts).unwrap_or(usize::MAX).saturating_add(1));
    }
    usize::try_from(state.cluster_spec().task_history_limit).ok()
}
