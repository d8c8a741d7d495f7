//! The tasks of one slot: who holds it now, who did before, and how the next one begins.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use coracle_model::id::{ServiceId, TaskId};
use coracle_model::service::Service;
use coracle_model::task::{DesiredState, Slot, Task, TaskState, TaskStatus};
use coracle_model::time::Timestamp;
use coracle_model::version::Version;

use super::restart;
use crate::change::Change;
use crate::plan::{Plan, PlanContext};
use crate::state::State;

/// A slot with all of its tasks that are still recorded.
#[derive(Debug, Clone)]
pub(crate) struct SlotTasks {
    /// Which slot.
    pub(crate) slot: Slot,
    /// Its tasks in the order in which they were made.
    pub(crate) tasks: Vec<Arc<Task>>,
}

/// All slots of a service that have tasks, in order.
pub(crate) fn slots_of(state: &State, service: ServiceId) -> Vec<SlotTasks> {
    let mut slots: Vec<SlotTasks> = Vec::new();
    for task in state.tasks_of_service(service) {
        match slots.last_mut() {
            Some(last) if last.slot == task.slot => last.tasks.push(Arc::clone(task)),
            _ => slots.push(SlotTasks { slot: task.slot, tasks: vec![Arc::clone(task)] }),
        }
    }
    for slot in &mut slots {
        slot.tasks.sort_by_key(|task| (task.created_at, task.id));
    }
    slots
}

/// One slot of a service.
pub(super) fn slot_of(state: &State, service: ServiceId, slot: Slot) -> SlotTasks {
    let mut tasks: Vec<Arc<Task>> = state.tasks_of_slot(service, slot).cloned().collect();
    tasks.sort_by_key(|task| (task.created_at, task.id));
    SlotTasks { slot, tasks }
}

impl SlotTasks {
    /// A slot that never had a task.
    pub(super) fn empty(slot: Slot) -> Self {
        Self { slot, tasks: Vec::new() }
    }

    /// The task that holds the slot.
    pub(crate) fn live(&self) -> Option<&Arc<Task>> {
        self.tasks.iter().rev().find(|task| task.is_live())
    }

    /// The newest task that was not taken out of the slot: it tells what became of it.
    pub(crate) fn newest(&self) -> Option<&Arc<Task>> {
        self.tasks.iter().rev().find(|task| task.desired < DesiredState::Remove)
    }

    /// The newest task of which nobody has said yet what its end means: it was wanted when it ended.
    pub(super) fn unjudged(&self) -> Option<&Arc<Task>> {
        self.tasks.iter().rev().find(|task| task.desired <= DesiredState::Running)
    }

    /// Whether the slot is in use: some task of it is more than a record to delete.
    pub(crate) fn is_held(&self) -> bool {
        self.newest().is_some()
    }

    /// Whether the slot's task runs, on a node that is there.
    pub(crate) fn is_running(&self, state: &State) -> bool {
        self.live()
            .is_some_and(|task| task.is_running() && task.node.is_some_and(|node| !state.is_node_lost(node)))
    }

    /// Whether a process of another task of this slot may exist on a node within reach.
    pub(super) fn may_run_beside(&self, state: &State, task: Option<&Task>) -> bool {
        self.tasks
            .iter()
            .filter(|other| task.is_none_or(|task| task.id != other.id))
            .any(|other| other.may_run() && other.node.is_some_and(|node| !state.is_node_lost(node)))
    }

    /// The newest task before the live one that had a node.
    pub(super) fn predecessor(&self) -> Option<&Arc<Task>> {
        let live = self.live().map(|task| task.id);
        self.tasks.iter().rev().find(|task| Some(task.id) != live && task.node.is_some())
    }

    /// Whether a process may exist on a node within reach that is no longer wanted.
    pub(super) fn is_leaving(&self, state: &State) -> bool {
        self.tasks
            .iter()
            .filter(|task| task.desired > DesiredState::Running && task.may_run())
            .any(|task| task.node.is_some_and(|node| !state.is_node_lost(node)))
    }

    /// The slot as it is once these of its tasks are given up.
    pub(super) fn without(mut self, relieved: &[Arc<Task>]) -> Self {
        for task in &mut self.tasks {
            if relieved.iter().any(|other| other.id == task.id) {
                let desired = given_up(task).max(task.desired);
                *task = Arc::new(Task { desired, ..Task::clone(task) });
            }
        }
        self
    }

    /// Takes everything out of the slot of a service at this version.
    pub(super) fn clear(&self, service_version: Version, plan: &mut Plan) {
        for task in &self.tasks {
            raise(task, DesiredState::Remove, service_version, plan);
        }
    }

    /// Gives up the present task, if there is one, and puts a new one in its place, in one write.
    ///
    /// The new one begins at once when there is neither a delay nor a process of this slot; otherwise it is
    /// prepared on its node meanwhile.
    pub(super) fn refill(
        &self,
        state: &State,
        service: &Service,
        given_up: Option<&Task>,
        delay: Duration,
        context: &mut PlanContext<'_>,
        plan: &mut Plan,
    ) {
        if let Some(task) = given_up {
            give_up(task, service, plan);
        }
        let at_once = delay.is_zero() && !self.may_run_beside(state, None);
        self.fill(state, service, None, (delay, at_once), context, plan);
    }

    /// Puts a new task beside the one that holds the slot, which goes when the new one runs.
    pub(super) fn fill_beside(
        &self,
        state: &State,
        service: &Service,
        holder: &Task,
        delay: Duration,
        context: &mut PlanContext<'_>,
        plan: &mut Plan,
    ) {
        // Whatever is there besides the holder has been given up, or is in this very plan.
        let others = self.tasks.iter().filter(|task| task.id != holder.id && task.may_run());
        let mut within_reach = others.filter_map(|task| task.node).filter(|node| !state.is_node_lost(*node));
        let at_once = delay.is_zero() && within_reach.next().is_none();
        self.fill(state, service, Some(holder.id), (delay, at_once), context, plan);
    }

    fn fill(
        &self,
        state: &State,
        service: &Service,
        beside: Option<TaskId>,
        (delay, at_once): (Duration, bool),
        context: &mut PlanContext<'_>,
        plan: &mut Plan,
    ) {
        let task = self.new_task(state, service, (delay, at_once), context);
        let now = context.present(state);
        if let Some(at) = task.start_after.filter(|at| *at > now) {
            plan.wake(at);
        }
        plan.changes.push(Change::CreateTask { task, service_version: service.version, beside });
    }

    /// A new task for the slot: wanted running at once, or prepared until then.
    pub(super) fn new_task(
        &self,
        state: &State,
        service: &Service,
        (delay, at_once): (Duration, bool),
        context: &mut PlanContext<'_>,
    ) -> Task {
        let now = context.present(state);
        let (desired, start_after) = if at_once {
            (DesiredState::Running, None)
        } else {
            (DesiredState::Ready, Some(now.after(delay)))
        };
        let crashes = self.newest().map_or(0, |last| restart::crashes_after(state, service, last));
        Task {
            id: context.new_task_id(),
            version: service.version,
            created_at: now,
            service: service.id,
            spec_version: service.spec_version,
            slot: self.slot,
            node: None,
            desired,
            start_after,
            status: pending(now, crashes, delay),
            running_since: None,
            crashes,
            run: service.job.as_ref().map_or(0, |job| job.run),
            generic: BTreeMap::new(),
        }
    }
}

/// What a task that is given up is wanted to be: stopped; one that never had a node leaves nothing to keep.
fn given_up(task: &Task) -> DesiredState {
    if task.node.is_some() { DesiredState::Shutdown } else { DesiredState::Remove }
}

/// Gives up a task.
pub(super) fn give_up(task: &Task, service: &Service, plan: &mut Plan) {
    raise(task, given_up(task), service.version, plan);
}

/// Starts a task that was prepared.
pub(super) fn start(task: &Task, service: &Service, plan: &mut Plan) {
    raise(task, DesiredState::Running, service.version, plan);
}

/// Raises what is wanted of a task, unless it is wanted already.
pub(super) fn raise(task: &Task, desired: DesiredState, service_version: Version, plan: &mut Plan) {
    if task.desired < desired {
        plan.changes.push(Change::RaiseDesired { task: task.id, desired, service_version });
    }
}

fn pending(now: Timestamp, crashes: u32, delay: Duration) -> TaskStatus {
    let message = match crashes {
        0 => String::new(),
        _ => format!("ended {crashes} times in a row; starts {} s after the last end", delay.as_secs()),
    };
    TaskStatus { state: TaskState::Pending, since: now, message, ..TaskStatus::default() }
}
