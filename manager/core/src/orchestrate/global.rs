//! Global services: one task on every node that takes it.
//!
//! The node is the slot. The task is made without a node, and the scheduler looks whether that one node has
//! room for it; until then it waits, with the reason.

use std::collections::BTreeMap;

use coracle_model::service::Service;
use coracle_model::task::Slot;

use super::fit;
use super::service::{Verdict, carry_out, judge, relieve};
use super::slot::SlotTasks;
use super::update::Rollout;
use crate::change::Change;
use crate::plan::{Plan, PlanContext};
use crate::state::State;

/// Clears the slots of nodes that may not have the service, keeps and fills those of the others.
pub(super) fn plan(
    state: &State,
    service: &Service,
    slots: Vec<SlotTasks>,
    context: &mut PlanContext<'_>,
) -> Plan {
    let mut plan = Plan::default();
    let spec = &service.spec.task;
    let now = context.present(state);
    let mut slots: BTreeMap<Slot, SlotTasks> = slots.into_iter().map(|slot| (slot.slot, slot)).collect();
    let (mut judged, mut relieved) = (Vec::new(), Vec::new());
    for node in state.nodes() {
        let slot = Slot::Node(node.id);
        if fit::takes_global_task(spec, node) {
            let tasks = slots.remove(&slot).unwrap_or_else(|| SlotTasks::empty(slot));
            let verdict = judge(state, service, &tasks, now);
            judged.push((tasks.without(&verdict.relieved), verdict.verdict));
            relieved.push(verdict.relieved);
        } else if fit::keeps(state, spec, node.id) {
            // A node that is paused, or not heard yet, keeps what it has and gets nothing new.
            if let Some(tasks) = slots.remove(&slot) {
                let judged = judge(state, service, &tasks, now);
                if matches!(judged.verdict, Verdict::Fine | Verdict::Delayed(_) | Verdict::Start(_)) {
                    relieve(&judged.relieved, service, &mut plan);
                    let tasks = tasks.without(&judged.relieved);
                    carry_out(state, service, &tasks, &judged.verdict, context, &mut plan);
                }
            }
        }
    }
    // What is left is on nodes that are gone, down, drained or excluded. It is removed, not just stopped:
    // when the node may have the service again, its slot begins anew.
    slots.values().for_each(|slot| slot.clear(service.version, &mut plan));
    let rollout = Rollout::of(state, service, &judged, context);
    let failure = rollout.failure();
    if let Some(change @ Change::RollBackService { .. }) = failure {
        return Plan { changes: vec![change], ..Plan::default() };
    }
    for ((slot, verdict), relieved) in judged.iter().zip(relieved) {
        relieve(&relieved, service, &mut plan);
        carry_out(state, service, slot, verdict, context, &mut plan);
    }
    rollout.step(failure, context, &mut plan);
    plan
}
