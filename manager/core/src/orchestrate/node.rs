//! What the condition of a node means for its tasks: down, drained, relabelled, shrunk.
//!
//! Replacing a task is the business of its service, in one write with giving it up; so this planner finds the slots that are
//! concerned and plans them as their services would, without a look at other slots: a node costs as much as it has tasks,
//! however many their services have elsewhere. Services of which that is not enough, and that are planned whole whenever one
//! of their nodes changes, are left alone. Only lack of room is judged here, since it is between services.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use coracle_model::id::{NodeId, ServiceId, TaskId};
use coracle_model::node::Node;
use coracle_model::service::ServiceMode;
use coracle_model::task::{Slot, Task};

use super::slot::{give_up, slot_of};
use super::{constraints_admit, some};
use crate::plan::{Plan, PlanContext};
use crate::state::{NodeUsage, State};

/// Slots that must be looked at because of a node, by service.
type Concerned = BTreeMap<ServiceId, BTreeSet<Slot>>;

/// What has to happen to the tasks of a node, and to global services because of it.
#[must_use]
pub fn plan_node(state: &State, id: NodeId, context: &mut PlanContext<'_>) -> Plan {
    let mut plan = Plan::default();
    let concerned = concerned(state, id);
    for (service, slots) in &concerned {
        // The others are planned whole, and by themselves alone: two plans of one job from two views begin too much.
        if let Some(slots) = some::plan_slots(state, *service, slots, context) {
            plan.merge(slots);
        }
    }
    if let Some(node) = state.node(id).filter(|node| node.keeps_tasks()) {
        for task in too_many(state, node) {
            if !concerned.contains_key(&task.service) {
                replace(state, &task, context, &mut plan);
            }
        }
    }
    plan
}

fn concerned(state: &State, id: NodeId) -> Concerned {
    let is_global = |task: &Task| {
        state.service(task.service).is_some_and(|service| service.spec.mode == ServiceMode::Global)
    };
    let amiss: Vec<&Arc<Task>> = match state.node(id).filter(|node| node.keeps_tasks()) {
        None => state.tasks_on_node(id).filter(|task| task.may_run()).collect(),
        Some(node) => state
            .constrained_services_on_node(id)
            .filter(|service| !is_admitted(state, *service, node))
            .flat_map(|service| state.tasks_of_service_on_node(service, id))
            .filter(|task| task.is_live())
            .collect(),
    };
    let mut concerned = Concerned::new();
    for service in state.global_services().filter(|service| is_global_task_amiss(state, service.id, id)) {
        concerned.entry(service.id).or_default().insert(Slot::Node(id));
    }
    for task in amiss.into_iter().filter(|task| !is_global(task)) {
        concerned.entry(task.service).or_default().insert(task.slot);
    }
    concerned
}

fn is_admitted(state: &State, service: ServiceId, node: &Node) -> bool {
    state.service(service).is_none_or(|service| constraints_admit(&service.spec.task.placement, node))
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
    if state.usage(node.id).is_within(node) {
        return Vec::new();
    }
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
    let slot = slot_of(state, task.service, task.slot);
    let is_held = slot.tasks.iter().any(|other| other.id != task.id && other.is_live());
    if is_held || task.run != service.job.as_ref().map_or(0, |job| job.run) {
        // The slot has another task, or a later run of the job: who comes next is for the service to say.
        return give_up(task, service, plan);
    }
    slot.refill(state, service, Some(task), Duration::ZERO, context, plan);
}
