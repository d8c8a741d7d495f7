//! Which node each waiting task gets, and why it gets none.
//!
//! Tasks of one specification are placed as a group: the filters look at every node once per group, and a
//! heap then hands out nodes, so that the cost follows groups times nodes plus tasks, not their product.

pub(crate) mod away;
mod explain;
mod filter;
mod group;
mod room;
mod spread;

use std::sync::Arc;

use coracle_model::id::TaskId;
use coracle_model::task::{Slot, Task};

use crate::change::Change;
use crate::plan::{Plan, PlanContext, Waiting};
use crate::state::State;

use group::Group;
use room::Rooms;

/// Gives nodes to the tasks that wait for one, and tells of the others why they wait.
#[must_use]
pub fn plan_schedule(state: &State, context: &mut PlanContext<'_>) -> Plan {
    let mut plan = Plan::default();
    if state.pending_count() == 0 {
        return plan;
    }
    let now = context.present(state);
    let mut rooms = Rooms::of(state);
    for mut group in group::groups(state, now) {
        // Of one service there is a group for each specification.
        group.count(&rooms);
        let (fixed, free): (Vec<_>, Vec<_>) =
            group.tasks.iter().partition(|task| matches!(task.slot, Slot::Node(_)));
        for task in fixed {
            place_on_its_node(&group, task, &mut rooms, &mut plan);
        }
        place_anywhere(&group, &free, &mut rooms, &mut plan);
    }
    plan
}

/// Why a task has no node; nothing when it has one or wants none.
///
/// Looks at every node: ask once per group of equal tasks where there are many.
#[must_use]
pub fn explain(state: &State, id: TaskId) -> Option<String> {
    let task = state.task(id).filter(|task| task.is_live() && task.node.is_none())?;
    let group = Group::of_task(state, task, state.time())?;
    let rooms = Rooms::of(state);
    Some(match task.slot {
        Slot::Number(_) => explain::reason(&group, rooms.all()),
        Slot::Node(node) => explain::reason(&group, rooms.only(node)),
    })
}

fn place_on_its_node(group: &Group<'_>, task: &Arc<Task>, rooms: &mut Rooms<'_>, plan: &mut Plan) {
    let Slot::Node(node) = task.slot else { return };
    let fits = rooms.index_of(node).filter(|at| filter::obstacle(group, rooms.at(*at)).is_none());
    match fits {
        Some(at) => assign(group, task, at, rooms, plan),
        None => plan.waiting.push(Waiting {
            service: group.service.id,
            slot: Some(task.slot),
            tasks: 1,
            reason: explain::reason(group, rooms.only(node)),
        }),
    }
}

fn place_anywhere(group: &Group<'_>, tasks: &[&Arc<Task>], rooms: &mut Rooms<'_>, plan: &mut Plan) {
    if tasks.is_empty() {
        return;
    }
    let mut candidates = spread::Candidates::of(group, rooms);
    for (placed, task) in tasks.iter().enumerate() {
        let Some(at) = candidates.next(group, rooms) else {
            let slot = if tasks.len() - placed == 1 { Some(task.slot) } else { None };
            plan.waiting.push(Waiting {
                service: group.service.id,
                slot,
                tasks: (tasks.len() - placed) as u64,
                reason: explain::reason(&candidates.counted(group, rooms), rooms.all()),
            });
            return;
        };
        assign(group, task, at, rooms, plan);
    }
}

fn assign(group: &Group<'_>, task: &Task, at: usize, rooms: &mut Rooms<'_>, plan: &mut Plan) {
    let (node, generic) = rooms.take(at, group.service.id, group.spec);
    plan.changes.push(Change::AssignTask {
        task: task.id,
        expected: task.version,
        node: node.id,
        node_version: node.version,
        generic,
    });
}
