//! How far a service is: what runs, what is wanted, and what is in the way.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_model::id::{NodeId, ServiceId};
use coracle_model::node::Availability;
use coracle_model::service::{Service, ServiceMode};
use coracle_model::task::{DesiredState, Slot, Task, TaskState};

use crate::orchestrate::{
    SlotTasks, constraints_admit, is_settled, is_up_to_date, plan_rebalance, plan_service, run_counts,
    run_failures, slots_of, takes_global_task, why_settled,
};
use crate::plan::{IdSource, PlanContext, Waiting};
use crate::schedule::Explanations;
use crate::state::State;

#[cfg(test)]
mod tests;

/// Tasks that run and tasks that are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Slots whose task runs, on a node that is there.
    pub running: u64,
    /// Slots that are wanted; of a job, those that are under way.
    pub desired: u64,
    /// Slots of a job's present run that completed.
    pub completed: u64,
    /// Slots of a job's present run that have to.
    pub total: u64,
}

/// How far a service is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// Tasks that run and tasks that are wanted; both zero once the service is removed.
    pub counts: Counts,
    /// Slots whose task runs what is wanted now.
    pub up_to_date: u64,
    /// Everything is as wanted, as far as it can be for now, and nothing else is left over.
    pub converged: bool,
    /// Every slot in use, in order.
    pub slots: Vec<SlotProgress>,
    /// What keeps it from converging, for the operator.
    pub waiting: Vec<String>,
    /// Of a removed service: tasks that still have to go.
    pub remaining: u64,
}

/// How far one slot is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotProgress {
    /// Which slot.
    pub slot: Slot,
    /// Where its task is.
    pub node: Option<NodeId>,
    /// How far its task is.
    pub state: TaskState,
    /// What went wrong with it, or while it does not run with those before it of the present specification; empty when nothing did.
    pub error: String,
}

/// Counts of one service; zero when there is none.
#[must_use]
pub fn service(state: &State, id: ServiceId) -> Counts {
    let Some(service) = state.service(id) else { return Counts::default() };
    let running = state.tasks_of_service(id).filter(|task| runs(state, task)).count() as u64;
    if service.spec.mode.is_job() {
        let run = run_counts(state, service, &slots_of(state, id), state.time());
        let left = run.total.saturating_sub(run.completed + run.failed);
        let desired = match service.spec.mode {
            ServiceMode::ReplicatedJob { concurrent, .. } if concurrent > 0 => concurrent.min(left),
            _ => left,
        };
        return Counts { running, desired, completed: run.completed, total: run.total };
    }
    Counts { running, desired: desired(state, service), ..Counts::default() }
}

/// How far one service is.
#[must_use]
pub fn progress(state: &State, id: ServiceId) -> Progress {
    let Some(service) = state.service(id) else {
        let remaining = state.tasks_of_service(id).count() as u64;
        return Progress { remaining, converged: remaining == 0, ..Progress::default() };
    };
    let slots: Vec<_> = slots_of(state, id).into_iter().filter(|slot| slot.is_held()).collect();
    let mut progress = Progress { counts: self::service(state, id), ..Progress::default() };
    let mut settled = 0;
    for slot in &slots {
        let Some(task) = slot.live().or_else(|| slot.newest()) else { continue };
        if slot.is_running(state) {
            let as_wanted = is_as_wanted(state, service, task);
            progress.up_to_date += u64::from(as_wanted);
            settled += u64::from(!as_wanted && is_left_to_paused(state, service, slot.slot));
        } else if is_settled(state, service, slot) {
            settled += 1;
        }
        let error = if task.status.error.is_empty() && !slot.is_running(state) {
            // What a former specification failed with says nothing of the present one.
            let present = slot.tasks.iter().rev().filter(|task| is_up_to_date(state, service, task));
            present.map(|task| &task.status.error).find(|error| !error.is_empty())
        } else {
            Some(&task.status.error)
        };
        progress.slots.push(SlotProgress {
            slot: slot.slot,
            node: task.node,
            state: task.status.state,
            error: error.cloned().unwrap_or_default(),
        });
    }
    progress.waiting = waiting(state, service, &slots);
    let updating =
        service.update.as_ref().is_some_and(|update| update.state.is_active() || update.state.is_paused());
    let as_wanted = match &service.job {
        Some(job) => job.run == 0 || job.ended_at.is_some(),
        None => progress.up_to_date + settled == progress.counts.desired,
    };
    progress.converged = as_wanted && !updating && !is_left_over(state, id);
    progress
}

/// Whether the task is what the service wants now, and where it wants it.
fn is_as_wanted(state: &State, service: &Service, task: &Task) -> bool {
    let placement = &service.spec.task.placement;
    let node = task.node.and_then(|node| state.node(node));
    is_up_to_date(state, service, task) && node.is_some_and(|node| constraints_admit(placement, node))
}

/// Whether a global service leaves the slot alone, whatever is in it, as its node is paused.
fn is_left_to_paused(state: &State, service: &Service, slot: Slot) -> bool {
    let (ServiceMode::Global, Slot::Node(node)) = (service.spec.mode, slot) else { return false };
    let placement = &service.spec.task.placement;
    state.node(node).is_some_and(|node| {
        node.spec.availability == Availability::Pause && constraints_admit(placement, node)
    })
}

fn desired(state: &State, service: &Service) -> u64 {
    match service.spec.mode {
        ServiceMode::Replicated { replicas } => replicas,
        ServiceMode::ReplicatedJob { .. } | ServiceMode::GlobalJob => 0,
        ServiceMode::Global => {
            let spec = &service.spec.task;
            let wanted = |node: &&Arc<_>| {
                takes_global_task(spec, node)
                    || state.tasks_of_slot(service.id, Slot::Node(node.id)).any(|task| task.is_live())
            };
            state.nodes().filter(wanted).count() as u64
        }
    }
}

fn runs(state: &State, task: &Task) -> bool {
    task.is_running() && task.node.is_some_and(|node| !state.is_node_lost(node))
}

/// Whether a task that is no longer wanted may still run on a node within reach.
fn is_left_over(state: &State, id: ServiceId) -> bool {
    state.tasks_of_service(id).any(|task| {
        task.desired > DesiredState::Running
            && task.may_run()
            && task.node.is_some_and(|node| !state.is_node_lost(node))
    })
}

/// Why slots stay empty although they are wanted.
fn given_up(state: &State, service: &Service, slots: &[SlotTasks]) -> Vec<String> {
    if service.spec.mode.is_job() {
        return run_failures(state, service, slots, state.time());
    }
    let settled = slots.iter().filter(|slot| slot.live().is_none() && is_settled(state, service, slot));
    settled.filter_map(|slot| why_settled(state, service, slot)).collect()
}

/// What is said of an outdated task of a global service whose node is paused.
const LEFT_TO_PAUSED: &str = "its node is paused; replaced when it takes tasks again";

/// Why tasks wait or are not tried again, each reason once, with how many it is about.
fn waiting(state: &State, service: &Service, slots: &[SlotTasks]) -> Vec<String> {
    let id = service.id;
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    let mut explanations = Explanations::of(state);
    for task in state.tasks_of_service(id).filter(|task| task.is_live() && task.node.is_none()) {
        *reasons.entry(explanations.why(task.id).unwrap_or_default()).or_default() += 1;
    }
    let delayed = state
        .tasks_of_service(id)
        .filter(|task| task.is_live() && task.start_after.is_some_and(|at| at > state.time()))
        .filter(|task| task.desired == DesiredState::Ready)
        .count() as u64;
    if delayed > 0 {
        reasons.insert("waits for the restart delay".to_owned(), delayed);
    }
    let left = |slot: &&SlotTasks| {
        let outdated = slot.live().is_some_and(|task| !is_as_wanted(state, service, task));
        outdated && is_left_to_paused(state, service, slot.slot)
    };
    let left = slots.iter().filter(left).count() as u64;
    if left > 0 {
        reasons.insert(LEFT_TO_PAUSED.to_owned(), left);
    }
    for reason in given_up(state, service, slots) {
        *reasons.entry(reason).or_default() += 1;
    }
    for (reason, tasks) in held_up(state, service, slots) {
        reasons.entry(reason).or_insert(tasks);
    }
    let about = |(reason, count): (String, u64)| match count {
        0 => reason,
        1 => format!("1 task: {reason}"),
        _ => format!("{count} tasks: {reason}"),
    };
    reasons.into_iter().map(about).collect()
}

/// What the planners of a service would do, and cannot yet: they are asked, as they know best. What they would do is dropped.
fn held_up(state: &State, service: &Service, slots: &[SlotTasks]) -> BTreeMap<String, u64> {
    /// Identifiers of objects that never are.
    struct Unused(u128);
    impl IdSource for Unused {
        fn next(&mut self) -> u128 {
            self.0 += 1;
            self.0
        }
    }
    let mut context = PlanContext { now: state.time(), ids: &mut Unused(0) };
    let mut waiting = plan_rebalance(state, service.id, &mut context).waiting;
    // Why empty slots stay empty is found above; here, why one whose task lives has no other.
    let is_held = |slot| slots.iter().any(|of: &SlotTasks| Some(of.slot) == slot && of.live().is_some());
    let own = plan_service(state, service.id, &mut context).waiting;
    waiting.extend(own.into_iter().filter(|waiting| waiting.slot.is_none() || is_held(waiting.slot)));
    let mut reasons = BTreeMap::new();
    for Waiting { tasks, reason, .. } in waiting {
        *reasons.entry(reason).or_default() += tasks;
    }
    reasons
}
