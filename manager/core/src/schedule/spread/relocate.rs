//! Which task of a service would be on a better node elsewhere, by the order in which nodes get tasks.
//!
//! *Better* is the scheduler's own idea: at the first preferred label, then at the next, then among nodes that are alike in all of
//! them, where there is most a task goes, and to where the next one would come, while the two differ by more than the skew that
//! is allowed. With a skew of at least one every such move makes the service strictly more even at that level and leaves the
//! levels above as they are: moves come to an end, and none is undone by another.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_model::id::{NodeId, TaskId};
use coracle_model::placement::Strategy;
use coracle_model::service::Service;
use coracle_model::task::Task;
use coracle_model::time::Timestamp;
use coracle_model::version::Version;

use super::super::group::Group;
use super::super::room::{Given, Room, Rooms};
use super::{Branch, Candidates, Ranked};
use crate::state::State;

/// A task that would be better elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relocation {
    /// Which.
    pub task: TaskId,
    /// Where it is.
    pub from: NodeId,
    /// Where it would be better.
    pub to: NodeId,
    /// The version of that node.
    pub to_version: Version,
    /// Which of that node's other things it would get.
    pub generic: Given,
}

/// The next task to move; none when the service is even. `movable` has for each node the task that goes first.
pub(crate) fn next(
    state: &State,
    service: &Arc<Service>,
    movable: &BTreeMap<NodeId, Arc<Task>>,
    now: Timestamp,
) -> Option<Relocation> {
    let group = Group::of_service(state, service, now);
    let rooms = Rooms::of(state);
    let search =
        Search { group: &group, rooms: &rooms, movable, skew: service.spec.rebalance.max_skew.max(1) };
    let (from, room) = search.anywhere()?;
    let generic = room.usage.choose(room.node, group.spec)?;
    let task = movable.get(&from)?.id;
    Some(Relocation { task, from, to: room.id, to_version: room.node.version, generic })
}

struct Search<'s, 'a> {
    group: &'s Group<'a>,
    rooms: &'s Rooms<'a>,
    movable: &'s BTreeMap<NodeId, Arc<Task>>,
    skew: u64,
}

/// Where a task goes, and where it comes.
type Found<'a> = (NodeId, Room<'a>);

impl<'a> Search<'_, 'a> {
    fn anywhere(&self) -> Option<Found<'a>> {
        let preferences = &self.group.placement.preferences;
        if preferences.is_empty() {
            // Only the nodes that have tasks are looked at, and the first that may have another.
            let on_nodes = self.movable.keys().map(|node| (*node, self.group.on_node(*node).tasks));
            return self.among_nodes(self.fullest(on_nodes)?, || {
                Candidates::of(self.group, self.rooms).next(self.group, self.rooms)
            });
        }
        let ranked = self.rooms.all().map(|room| Ranked::of(self.group, room, preferences));
        self.within(&ranked.collect::<Vec<_>>(), preferences.len())
    }

    /// Among these nodes, of whose labels `levels` are still to be looked at.
    fn within(&self, nodes: &[Ranked<'a>], levels: usize) -> Option<Found<'a>> {
        if levels == 0 {
            let on_nodes = nodes.iter().map(|ranked| (ranked.rank.node, ranked.rank.of_service));
            return self.among_nodes(self.fullest(on_nodes)?, || self.best(nodes, 0));
        }
        let branches = branches(nodes, levels);
        let target = branches
            .iter()
            .filter_map(|branch| Some((tasks(branch), self.best(branch, levels - 1)?)))
            .min_by_key(|(tasks, room)| (*tasks, room.id));
        let source = branches
            .iter()
            .filter_map(|branch| Some((tasks(branch), self.source(branch, levels - 1)?)))
            .max_by_key(|(tasks, node)| (*tasks, *node));
        match (source, target) {
            (Some((most, from)), Some((least, room))) if most > least + self.skew => Some((from, room)),
            _ => branches.iter().find_map(|branch| self.within(branch, levels - 1)),
        }
    }

    /// A service that fills nodes has no even number of tasks on them.
    fn among_nodes(
        &self,
        (most, from): (u64, NodeId),
        best: impl FnOnce() -> Option<Room<'a>>,
    ) -> Option<Found<'a>> {
        if self.group.placement.strategy == Strategy::Binpack || most <= self.skew {
            return None;
        }
        let room = best()?;
        (most > self.group.on_node(room.id).tasks + self.skew).then_some((from, room))
    }

    /// The node that the next task would get.
    fn best(&self, nodes: &[Ranked<'a>], levels: usize) -> Option<Room<'a>> {
        Branch::of(nodes.to_vec(), levels).next(self.group, self.rooms, &mut Vec::new())
    }

    /// The node from which a task goes.
    fn source(&self, nodes: &[Ranked<'a>], levels: usize) -> Option<NodeId> {
        if levels == 0 {
            let on_nodes = nodes.iter().map(|ranked| (ranked.rank.node, ranked.rank.of_service));
            return self.fullest(on_nodes).map(|(_, node)| node);
        }
        branches(nodes, levels)
            .iter()
            .filter_map(|branch| Some((tasks(branch), self.source(branch, levels - 1)?)))
            .max_by_key(|(tasks, node)| (*tasks, *node))
            .map(|(_, node)| node)
    }

    /// The node with the most tasks of the service, of those from which any may go; where they fill nodes, with the fewest.
    fn fullest(&self, on_nodes: impl Iterator<Item = (NodeId, u64)>) -> Option<(u64, NodeId)> {
        let sources =
            on_nodes.filter(|(node, _)| self.movable.contains_key(node)).map(|(node, tasks)| (tasks, node));
        match self.group.placement.strategy {
            Strategy::Spread => sources.max(),
            Strategy::Binpack => sources.min(),
        }
    }
}

fn tasks(nodes: &[Ranked<'_>]) -> u64 {
    nodes.iter().map(|ranked| ranked.rank.of_service).sum()
}

/// The nodes by their values of the label that is next.
fn branches<'a>(nodes: &[Ranked<'a>], levels: usize) -> Vec<Vec<Ranked<'a>>> {
    let mut values: BTreeMap<&str, Vec<Ranked<'a>>> = BTreeMap::new();
    for ranked in nodes {
        let value = ranked.values.iter().rev().nth(levels - 1).copied().unwrap_or_default();
        values.entry(value).or_default().push(ranked.clone());
    }
    values.into_values().collect()
}
