//! Which node each waiting task gets, and why it gets none.
//!
//! Tasks of one specification are placed as a group. Nodes come in the order in which they would get a task, and the
//! filters look at one when its turn comes: the cost follows the tasks, not the nodes, as long as nodes have room.

pub(crate) mod away;
mod explain;
mod filter;
mod group;
mod room;
mod spread;
mod unfit;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use coracle_model::id::{ServiceId, TaskId};
use coracle_model::task::{Slot, Task};
use coracle_model::version::Version;

use crate::change::Change;
use crate::plan::{Plan, PlanContext, Waiting};
use crate::state::State;

pub use spread::relocate;

use group::Group;
use room::{Room, Rooms};
use unfit::Unfit;

/// Gives nodes to the tasks that wait for one, and tells of the others why they wait.
#[must_use]
pub fn plan_schedule(state: &State, context: &mut PlanContext<'_>) -> Plan {
    let mut plan = Plan::default();
    if state.pending_count() == 0 {
        return plan;
    }
    let now = context.present(state);
    let mut rooms = Rooms::of(state);
    let mut unfit = Unfit::default();
    for mut group in group::groups(state, now) {
        // Of one service there is a group for each specification.
        group.count(&rooms);
        let (fixed, free): (Vec<_>, Vec<_>) =
            group.tasks.iter().copied().partition(|task| matches!(task.slot, Slot::Node(_)));
        for task in fixed {
            place_on_its_node(&mut group, task, &mut rooms, &mut plan);
        }
        place_anywhere(&group, &free, &mut rooms, &mut unfit, &mut plan);
    }
    plan
}

/// Why tasks have no node. What is found out for one is kept for those that are alike: it takes a look at every node, and at every
/// task of the service.
#[derive(Debug)]
pub struct Explanations<'a> {
    state: &'a State,
    rooms: Rooms<'a>,
    /// With what is said of those of its tasks that may go anywhere.
    groups: BTreeMap<(ServiceId, Version), (Group<'a>, Option<String>)>,
}

impl<'a> Explanations<'a> {
    /// By this state.
    #[must_use]
    pub fn of(state: &'a State) -> Self {
        Self { state, rooms: Rooms::of(state), groups: BTreeMap::new() }
    }

    /// Why a task has no node; nothing when it has one or wants none.
    pub fn why(&mut self, id: TaskId) -> Option<String> {
        let task = self.state.task(id).filter(|task| task.is_live() && task.node.is_none())?;
        let (group, anywhere) = match self.groups.entry((task.service, task.spec_version)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert((Group::of_task(self.state, task, self.state.time())?, None)),
        };
        Some(match task.slot {
            Slot::Number(_) => {
                let every_node = || self.rooms.all().collect::<Vec<_>>();
                anywhere.get_or_insert_with(|| explain::reason(group, &every_node())).clone()
            }
            Slot::Node(node) => explain::reason(group, self.rooms.get(node).as_slice()),
        })
    }
}

fn place_on_its_node(group: &mut Group<'_>, task: &Arc<Task>, rooms: &mut Rooms<'_>, plan: &mut Plan) {
    let Slot::Node(node) = task.slot else { return };
    let room = rooms.get(node);
    let fits = room.as_ref().is_some_and(|room| filter::obstacle(group, room).is_none());
    match room {
        Some(room) if fits => {
            assign(group, task, room, rooms, plan);
            // Another run of a job may want a task there as well.
            group.place(node);
        }
        room => plan.waiting.push(Waiting {
            service: group.service.id,
            slot: Some(task.slot),
            tasks: 1,
            reason: explain::reason(group, room.as_slice()),
        }),
    }
}

fn place_anywhere<'a>(
    group: &Group<'a>,
    tasks: &[&Arc<Task>],
    rooms: &mut Rooms<'_>,
    unfit: &mut Unfit<'a>,
    plan: &mut Plan,
) {
    if tasks.is_empty() {
        return;
    }
    if let Some(reason) = unfit.reason(group) {
        plan.waiting.push(waiting(group, tasks, reason.to_owned()));
        return;
    }
    rooms.put_in_order();
    let mut candidates = spread::Candidates::of(group, rooms);
    for (placed, task) in tasks.iter().enumerate() {
        let Some(room) = candidates.next(group, rooms) else {
            let reason = explain::reason(&candidates.counted(group), &rooms.all().collect::<Vec<_>>());
            unfit.add(group, reason.clone());
            plan.waiting.push(waiting(group, &tasks[placed..], reason));
            return;
        };
        assign(group, task, room, rooms, plan);
    }
}

fn waiting(group: &Group<'_>, tasks: &[&Arc<Task>], reason: String) -> Waiting {
    let slot = if let [task] = tasks { Some(task.slot) } else { None };
    Waiting { service: group.service.id, slot, tasks: tasks.len() as u64, reason }
}

fn assign(group: &Group<'_>, task: &Task, room: Room<'_>, rooms: &mut Rooms<'_>, plan: &mut Plan) {
    let (node, version) = (room.id, room.node.version);
    let generic = rooms.take(room, group.service.id, group.spec);
    plan.changes.push(Change::AssignTask {
        task: task.id,
        expected: task.version,
        node,
        node_version: version,
        generic,
    });
}
