//! Replicated services: so many slots, wherever there is room.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use coracle_model::id::NodeId;
use coracle_model::service::Service;
use coracle_model::task::Slot;

use super::service::{carry_out, judge, relieve};
use super::slot::SlotTasks;
use super::update::Rollout;
use crate::change::Change;
use crate::plan::{Plan, PlanContext};
use crate::state::State;

/// Clears surplus slots, fills missing ones, keeps the others going.
pub(super) fn plan(
    state: &State,
    service: &Service,
    slots: Vec<SlotTasks>,
    replicas: u64,
    context: &mut PlanContext<'_>,
) -> Plan {
    let mut plan = Plan::default();
    let wanted = usize::try_from(replicas).unwrap_or(usize::MAX);
    let (held, leaving): (Vec<_>, Vec<_>) = slots.into_iter().partition(SlotTasks::is_held);
    let mut leaving: BTreeMap<Slot, SlotTasks> = leaving.into_iter().map(|slot| (slot.slot, slot)).collect();
    let going = surplus(state, &held, wanted);
    let (going, held): (Vec<_>, Vec<_>) = held.into_iter().partition(|slot| going.contains(&slot.slot));
    going.iter().for_each(|slot| slot.clear(service.version, &mut plan));
    for number in missing(&held, wanted) {
        let slot = Slot::Number(number);
        // Former tasks of the slot may still be stopping.
        let tasks = leaving.remove(&slot).unwrap_or_else(|| SlotTasks::empty(slot));
        tasks.refill(state, service, None, Duration::ZERO, context, &mut plan);
    }
    let now = context.present(state);
    let (mut judged, mut relieved) = (Vec::with_capacity(held.len()), Vec::with_capacity(held.len()));
    for slot in held {
        let verdict = judge(state, service, &slot, now);
        judged.push((slot.without(&verdict.relieved), verdict.verdict));
        relieved.push(verdict.relieved);
    }
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

/// The lowest numbers that no slot has.
fn missing(held: &[SlotTasks], wanted: usize) -> Vec<u64> {
    let count = wanted.saturating_sub(held.len());
    if count == 0 {
        return Vec::new();
    }
    let taken: BTreeSet<Slot> = held.iter().map(|slot| slot.slot).collect();
    (1..).filter(|number| !taken.contains(&Slot::Number(*number))).take(count).collect()
}

/// Which slots go when fewer are wanted: those that do not run, then from the nodes that have most of the
/// service's tasks, and the highest of these.
fn surplus(state: &State, held: &[SlotTasks], wanted: usize) -> BTreeSet<Slot> {
    let mut left = held.len().saturating_sub(wanted);
    let mut going = BTreeSet::new();
    if left == 0 {
        return going;
    }
    let (running, idle): (Vec<_>, Vec<_>) = held.iter().partition(|slot| slot.is_running(state));
    for slot in idle.iter().rev().take(left) {
        going.insert(slot.slot);
    }
    left -= going.len();
    let mut by_node: BTreeMap<NodeId, Vec<Slot>> = BTreeMap::new();
    for slot in running {
        if let Some(node) = slot.live().and_then(|task| task.node) {
            by_node.entry(node).or_default().push(slot.slot);
        }
    }
    // Slots come in rising order, so that the last of each node is its highest.
    let rank = |slots: &Vec<Slot>| slots.last().map(|highest| (slots.len(), *highest));
    let mut order: BTreeSet<((usize, Slot), NodeId)> =
        by_node.iter().filter_map(|(node, slots)| Some((rank(slots)?, *node))).collect();
    while left > 0 {
        let Some(((_, highest), node)) = order.pop_last() else { break };
        going.insert(highest);
        left -= 1;
        if let Some(slots) = by_node.get_mut(&node) {
            slots.pop();
            order.extend(rank(slots).map(|rank| (rank, node)));
        }
    }
    going
}
