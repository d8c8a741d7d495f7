//! What the condition of a node means for its tasks: down, drained, relabelled, shrunk.
//!
//! Replacing a task is the business of its service, in one write with giving it up; so this planner finds
//! the services that are concerned and plans them. Only lack of room is judged here, since it is between
//! services.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use coracle_model::id::{NodeId, ServiceId, TaskId};
use coracle_model::node::Node;
use coracle_model::service::ServiceMode;
use coracle_model::task::{Slot, Task};

use super::slot::{SlotTasks, give_up};
use super::{constraints_admit, plan_service};
use crate::plan::{Plan, PlanContext};
use crate::state::{NodeUsage, State};

/// What has to happen to the tasks of a node, and to global services because of it.
#[must_use]
pub fn plan_node(state: &State, id: NodeId, context: &mut PlanContext<'_>) -> Plan {
    let mut plan = Plan::default();
    let concerned = concerned(state, id);
    for service in &concerned {
        plan.merge(plan_service(state, *service, context));
    }
    if let Some(node) = state.node(id).filter(|node| node.keeps_tasks()) {
        for task in too_many(state, node) {
            if !concerned.contains(&task.service) {
                replace(state, &task, context, &mut plan);
            }
        }
    }
    plan
}

/// Services that must look again because of this node.
fn concerned(state: &State, id: NodeId) -> BTreeSet<ServiceId> {
    let global =
        |id: ServiceId| state.service(id).is_some_and(|service| service.spec.mode == ServiceMode::Global);
    let globals = state
        .global_services()
        .filter(|service| is_global_task_amiss(state, service.id, id))
        .map(|service| service.id);
    let node = state.node(id);
    let others = state
        .tasks_on_node(id)
        .filter(|task| task.may_run() && !global(task.service) && is_amiss(state, task, node))
        .map(|task| task.service);
    globals.chain(others).collect()
}

fn is_amiss(state: &State, task: &Task, node: Option<&Arc<Node>>) -> bool {
    let Some(node) = node else { return true };
    if !node.keeps_tasks() {
        return true;
    }
    let spec = state.service(task.service).map(|service| &service.spec.task);
    task.is_live() && spec.is_some_and(|spec| !constraints_admit(&spec.placement, node))
}

/// Whether the node has a task of the global service and should not, or the other way round.
fn is_global_task_amiss(state: &State, service: ServiceId, id: NodeId) -> bool {
    let Some(service) = state.service(service) else { return false };
    let spec = &service.spec.task;
    let held = state.tasks_of_slot(service.id, Slot::Node(id)).any(|task| task.is_live());
    match state.node(id) {
        Some(node) if super::takes_global_task(spec, node) => !held,
        Some(_) if super::fit::keeps(state, spec, id) => false,
        _ => held,
    }
}

/// The live tasks, in the order of their making, for which the node no longer has room, or what they have for themselves.
fn too_many(state: &State, node: &Node) -> Vec<Arc<Task>> {
    let mut live: Vec<&Arc<Task>> = state.tasks_on_node(node.id).filter(|task| task.is_live()).collect();
    live.sort_by_key(|task| (task.created_at, task.id));
    let mut used = NodeUsage::default();
    let mut over: BTreeSet<TaskId> = BTreeSet::new();
    for task in &live {
        let Some(spec) = state.task_spec(task.service, task.spec_version) else { continue };
        let (wanted, free) = (spec.reservations, node.description.resources.minus(used.reserved));
        if wanted.cpu > free.cpu || wanted.memory > free.memory || !used.permits(node, spec, &task.generic) {
            over.insert(task.id);
        } else {
            used = used.with(spec, &task.generic);
        }
    }
    live.into_iter().filter(|task| over.contains(&task.id)).cloned().collect()
}

fn replace(state: &State, task: &Task, context: &mut PlanContext<'_>, plan: &mut Plan) {
    let Some(service) = state.service(task.service) else { return };
    let mut tasks: Vec<Arc<Task>> = state.tasks_of_slot(task.service, task.slot).cloned().collect();
    let is_held = tasks.iter().any(|other| other.id != task.id && other.is_live());
    if is_held || task.run != service.job.map_or(0, |job| job.run) {
        // The slot has another task, or a later run of the job: who comes next is for the service to say.
        return give_up(task, plan);
    }
    tasks.sort_by_key(|task| (task.created_at, task.id));
    let slot = SlotTasks { slot: task.slot, tasks };
    slot.refill(state, service, Some(task), Duration::ZERO, context, plan);
}
