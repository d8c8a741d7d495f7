//! Replacing tasks of an older specification, slot by slot, and judging how that goes.
//!
//! *Stop-first*: the new task is prepared while the old one stops, both from one write. *Start-first*: the new task runs beside
//! the old one, which goes when the new one runs. The next slot follows when the new task runs and the delay is over. A new task
//! that fails is replaced by the restart policy and holds its place meanwhile, so that a specification that does not work takes
//! down no more than `parallelism`.
//!
//! Whether an update fails is counted in its replicated progress, each task once, so that a new leader goes on counting.

use std::collections::BTreeSet;
use std::sync::Arc;

use coracle_model::id::TaskId;
use coracle_model::rollout::{FailureAction, UpdateConfig, UpdateProgress, UpdateState};
use coracle_model::service::Service;
use coracle_model::task::Task;
use coracle_model::time::Timestamp;

use super::service::{Verdict, config, is_in_flight, is_starting, stuck_at};
use super::slot::SlotTasks;
use super::{restart, successor};
use crate::change::Change;
use crate::plan::{Plan, PlanContext, Waiting};
use crate::state::State;

/// The replacement of a service's tasks, as it stands.
pub(super) struct Rollout<'a> {
    state: &'a State,
    service: &'a Service,
    slots: &'a [(SlotTasks, Verdict)],
    config: UpdateConfig,
    now: Timestamp,
    /// Those that were tried already first, then those that do not run: replacing them costs nothing.
    outdated: Vec<Outdated<'a>>,
    /// Slots whose replacement is under way, or whose delay is not over.
    busy: usize,
    /// When the first delay is over.
    rested: Option<Timestamp>,
}

/// A slot whose task is of an older specification.
type Outdated<'a> = (&'a SlotTasks, &'a Arc<Task>);

impl<'a> Rollout<'a> {
    pub(super) fn of(
        state: &'a State,
        service: &'a Service,
        slots: &'a [(SlotTasks, Verdict)],
        context: &PlanContext<'_>,
    ) -> Self {
        let (config, now) = (*config(service), context.present(state));
        let (outdated, busy, rested) = (Vec::new(), 0, None);
        let mut rollout = Self { state, service, slots, config, now, outdated, busy, rested };
        rollout.outdated = rollout.find_outdated();
        for (slot, verdict) in slots {
            let until = rollout.rests_until(slot);
            if is_in_flight(state, service, slot, verdict, now) {
                rollout.busy += 1;
            } else if let Some(until) = until {
                rollout.busy += 1;
                rollout.rested = Some(rollout.rested.map_or(until, |earlier| earlier.min(until)));
            }
        }
        rollout
    }

    /// What ends or changes the course of the update because it goes wrong. Where that is the return to the former
    /// specification, nothing else is to be planned, since it would be for a specification that no longer counts.
    pub(super) fn failure(&self) -> Option<Change> {
        // Nearly every plan is of a service that nothing happens to.
        self.active().and_then(|update| self.failure_of(update))
    }

    /// Replaces as many outdated slots as may be under way at a time, and notes where the update stands.
    pub(super) fn step(&self, failure: Option<Change>, context: &mut PlanContext<'_>, plan: &mut Plan) {
        if let Some(end) = failure {
            plan.changes.push(end);
            return;
        }
        if !self.service.update.as_ref().is_some_and(|update| update.state.is_paused()) {
            self.replace(context, plan);
        }
        self.wake(plan);
        self.note_progress(plan);
    }

    fn active(&self) -> Option<&UpdateProgress> {
        self.service.update.as_ref().filter(|update| update.state.is_active())
    }

    fn find_outdated(&self) -> Vec<Outdated<'a>> {
        let mut outdated: Vec<Outdated<'a>> = self
            .slots
            .iter()
            .filter_map(|(slot, verdict)| match verdict {
                Verdict::Outdated(task) => Some((slot, task)),
                _ => None,
            })
            .collect();
        outdated.sort_by_key(|(slot, task)| (self.is_new(slot), !is_starting(task), slot.slot));
        outdated
    }

    /// Whether no new task of the slot has failed yet.
    fn is_new(&self, slot: &SlotTasks) -> bool {
        successor::attempt(self.state, self.service, slot).is_none()
    }

    /// Until when a slot that was just replaced keeps its place in the parallelism.
    fn rests_until(&self, slot: &SlotTasks) -> Option<Timestamp> {
        let begun = self.active()?.started_at;
        let task = slot.live().filter(|task| task.created_at >= begun && slot.predecessor().is_some())?;
        let until = task.running_since?.after(self.config.delay);
        (!self.config.delay.is_zero() && until > self.now).then_some(until)
    }

    fn replace(&self, context: &mut PlanContext<'_>, plan: &mut Plan) {
        let room = match usize::try_from(self.config.parallelism) {
            Ok(0) | Err(_) => usize::MAX,
            Ok(parallelism) => parallelism.saturating_sub(self.busy),
        };
        for (slot, task) in self.outdated.iter().take(room) {
            if let Err(reason) = successor::begin(self.state, self.service, slot, task, context, plan) {
                let (service, slot) = (self.service.id, Some(slot.slot));
                let reason = format!("not replaced: {reason}");
                plan.waiting.push(Waiting { service, slot, tasks: 1, reason });
            }
        }
    }

    fn wake(&self, plan: &mut Plan) {
        if let Some(at) = self.rested {
            plan.wake(at);
        }
        let stuck = self.slots.iter().filter_map(|(slot, _)| stuck_at(self.state, self.service, slot));
        for at in stuck.filter(|at| *at > self.now) {
            plan.wake(at);
        }
        if let Some(at) = self.deadline().filter(|at| *at > self.now) {
            plan.wake(at);
        }
    }

    /// New tasks of this update.
    fn new_tasks(&self) -> impl Iterator<Item = &Arc<Task>> {
        let begun = self.active().map_or(self.now, |update| update.started_at);
        let tasks = self.slots.iter().flat_map(|(slot, _)| &slot.tasks);
        tasks.filter(move |task| {
            task.created_at >= begun && restart::is_up_to_date(self.state, self.service, task)
        })
    }

    /// When nothing has gone forward for too long.
    fn deadline(&self) -> Option<Timestamp> {
        let update = self.active().filter(|_| !self.config.timeout.is_zero())?;
        let last = self.new_tasks().filter_map(|task| task.running_since).max();
        let from = last.unwrap_or(update.started_at).max(update.started_at);
        Some(from.after(self.config.timeout + self.config.delay.max(self.config.monitor)))
    }

    /// New tasks that ended of their own accord before they ran, or while they were watched.
    fn failed(&self) -> BTreeSet<TaskId> {
        let soon = |task: &Task| {
            task.running_since.is_none_or(|since| task.status.since.since(since) <= self.config.monitor)
        };
        self.new_tasks()
            .filter(|task| restart::ended_by_itself(task) && soon(task))
            .map(|task| task.id)
            .collect()
    }

    fn failure_of(&self, update: &UpdateProgress) -> Option<Change> {
        let failed = self.counted(update);
        let news = failed.len() > update.failed.len();
        let slots = update.slots.max(1);
        let too_many = news && self.config.max_failure_ratio.is_exceeded(failed.len() as u64, slots);
        let is_open = !self.outdated.is_empty() || self.busy > 0;
        let too_late = is_open && self.deadline().is_some_and(|at| at <= self.now);
        let why = if too_many {
            let last = self.failed().difference(&update.failed).last().copied();
            let task = last.map_or_else(String::new, |task| format!(" of task {task}"));
            format!("due to failure or early termination{task}")
        } else if too_late {
            format!("because nothing went forward for {} s", self.config.timeout.as_secs())
        } else {
            return None;
        };
        let roll_back = self.config.failure_action == FailureAction::Rollback
            && update.state == UpdateState::Updating
            && self.service.previous_spec.is_some();
        if roll_back {
            return Some(Change::RollBackService {
                service: self.service.id,
                expected: self.service.version,
                message: format!("{ROLLED_BACK} {why}"),
                automatic: true,
            });
        }
        let (state, word) = match update.state {
            UpdateState::RollbackStarted => (UpdateState::RollbackPaused, "rollback"),
            _ => (UpdateState::Paused, "update"),
        };
        let message = with_cause(format!("{word} paused {why}"), update);
        Some(self.note(UpdateProgress { state, message, failed, ..update.clone() }))
    }

    /// The failures that count, old and new.
    fn counted(&self, update: &UpdateProgress) -> BTreeSet<TaskId> {
        let mut failed = update.failed.clone();
        if self.config.failure_action != FailureAction::Continue {
            failed.extend(self.failed());
        }
        failed
    }

    /// Comes last in the plan: it raises the service's version, which the tasks made before it name.
    fn note_progress(&self, plan: &mut Plan) {
        let Some(update) = self.active() else {
            let paused = self.service.update.as_ref().is_some_and(|update| update.state.is_paused());
            if !paused && !self.outdated.is_empty() {
                let slots = self.outdated.len() as u64;
                let begun =
                    UpdateProgress::begun(UpdateState::Updating, self.now, slots, "update in progress");
                plan.changes.push(self.note(begun));
            }
            return;
        };
        let failed = self.counted(update);
        let watched_until = self.watched_until().filter(|until| *until > self.now);
        if !self.outdated.is_empty() || self.busy > 0 || watched_until.is_some() {
            if let Some(until) = watched_until {
                plan.wake(until);
            }
            if failed != update.failed {
                plan.changes.push(self.note(UpdateProgress { failed, ..update.clone() }));
            }
            return;
        }
        let (state, message) = match update.state {
            UpdateState::RollbackStarted => (UpdateState::RollbackCompleted, "rollback completed"),
            _ => (UpdateState::Completed, "update completed"),
        };
        let (completed_at, message) = (Some(self.now), with_cause(message.to_owned(), update));
        plan.changes.push(self.note(UpdateProgress {
            state,
            completed_at,
            message,
            failed,
            ..update.clone()
        }));
    }

    /// Until when the last new task is watched.
    fn watched_until(&self) -> Option<Timestamp> {
        let last = self.new_tasks().filter_map(|task| task.running_since).max()?;
        Some(last.after(self.config.monitor))
    }

    fn note(&self, progress: UpdateProgress) -> Change {
        Change::SetUpdateProgress { service: self.service.id, expected: self.service.version, progress }
    }
}

/// How the message of an automatic rollback begins.
const ROLLED_BACK: &str = "update rolled back";

/// What is said of a rollback that began by itself goes on to say why.
fn with_cause(message: String, update: &UpdateProgress) -> String {
    match update.message.find(ROLLED_BACK) {
        Some(at) if update.state.is_rollback() => format!("{message}: {}", &update.message[at..]),
        _ => message,
    }
}
