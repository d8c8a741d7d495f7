//! Replacing tasks of an older specification, slot by slot.
//!
//! The order is stop-first: the new task is prepared while the old one stops, both from one write. The next
//! slot follows when the new task runs. A new task that fails is replaced by the restart policy and holds
//! its place meanwhile, so that a specification that does not work takes down no more than `parallelism`.

use std::time::Duration;

use coracle_model::service::{Service, UpdateProgress, UpdateState};

use super::service::{Verdict, is_in_flight, is_starting, stuck_at};
use super::slot::SlotTasks;
use crate::change::Change;
use crate::plan::{Plan, PlanContext};
use crate::state::State;

/// Replaces as many outdated slots as may be under way at a time, and notes where the update stands.
pub(super) fn step(
    state: &State,
    service: &Service,
    slots: &[(SlotTasks, Verdict)],
    context: &mut PlanContext<'_>,
    plan: &mut Plan,
) {
    let present = context.present(state);
    let in_flight =
        slots.iter().filter(|(slot, verdict)| is_in_flight(state, service, slot, verdict, present)).count();
    let mut outdated: Vec<_> = slots
        .iter()
        .filter_map(|(slot, verdict)| match verdict {
            Verdict::Outdated(task) => Some((slot, task)),
            _ => None,
        })
        .collect();
    // Those that do not run first: replacing them costs nothing.
    outdated.sort_by_key(|(slot, task)| (!is_starting(task), slot.slot));
    let room = match usize::try_from(service.spec.update.parallelism) {
        Ok(0) | Err(_) => usize::MAX,
        Ok(parallelism) => parallelism.saturating_sub(in_flight),
    };
    let now = room.min(outdated.len());
    for (slot, task) in &outdated[..now] {
        slot.refill(state, service, Some(task), Duration::ZERO, context, plan);
    }
    for at in slots.iter().filter_map(|(slot, _)| stuck_at(state, service, slot)).filter(|at| *at > present) {
        plan.wake(at);
    }
    let done = outdated.is_empty() && in_flight == 0;
    note_progress(state, service, done, !outdated.is_empty(), context, plan);
}

/// Comes last in the plan: it raises the service's version, which the tasks made before it name.
fn note_progress(
    state: &State,
    service: &Service,
    done: bool,
    outdated: bool,
    context: &PlanContext<'_>,
    plan: &mut Plan,
) {
    let updating = service.update.as_ref().filter(|update| update.state == UpdateState::Updating);
    let now = context.present(state);
    let progress = match updating {
        Some(update) if done => UpdateProgress {
            state: UpdateState::Completed,
            completed_at: Some(now),
            message: "update completed".to_owned(),
            ..update.clone()
        },
        None if outdated => UpdateProgress::begun(UpdateState::Updating, now, 0, "update in progress"),
        _ => return,
    };
    plan.changes.push(Change::SetUpdateProgress { service: service.id, expected: service.version, progress });
}
