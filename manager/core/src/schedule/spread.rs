//! In which order nodes get tasks.
//!
//! The service's tasks are divided equally among the values of the first label that it prefers, those of each value among
//! the values of the next label, and so on; among the nodes that are alike in all of them by the service's strategy.

pub mod relocate;
mod stream;

use std::cmp::{Ordering, Reverse};
use std::collections::binary_heap::PeekMut;
use std::collections::{BTreeMap, BinaryHeap};

use coracle_model::id::NodeId;
use coracle_model::placement::{SpreadOver, Strategy};

use super::filter;
use super::group::{FAILURES_TOLERATED, Group, looks_at_all};
use super::room::{Room, Rooms};
use stream::Stream;

/// The nodes in the order in which they get tasks of the group. Whether one can have any is asked when its turn comes.
#[derive(Debug)]
pub(super) struct Candidates {
    shape: Shape,
    /// Nodes that can have no more, with what the service has there now.
    done: Vec<Rank>,
}

#[derive(Debug)]
enum Shape {
    /// Nodes without tasks of the service come as the state keeps them in order.
    Stream(Stream),
    Tree(Branch),
}

/// Less is better; fields in the order of their weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// The service fails there.
    fails: bool,
    /// By the strategy.
    load: (u64, u64),
    node: NodeId,
    /// Tasks of the service on the node.
    of_service: u64,
    /// Whether it was asked about everything, and got a task; what can change since is only how full it is.
    asked: bool,
}

/// Nodes that are alike in the labels so far.
#[derive(Debug)]
struct Branch {
    /// Tasks of the service on them, also on those that can have no more.
    tasks: u64,
    inner: Inner,
}

#[derive(Debug)]
enum Inner {
    Nodes(BinaryHeap<Reverse<Rank>>),
    Branches(BinaryHeap<Reverse<Branch>>),
}

impl Candidates {
    pub(super) fn of(group: &Group<'_>, rooms: &Rooms<'_>) -> Self {
        let preferences = &group.placement.preferences;
        let shape = if !looks_at_all(group.placement) {
            Shape::Stream(Stream::of(rooms))
        } else {
            let ranked = rooms.all().map(|room| Ranked::of(group, room, preferences));
            Shape::Tree(Branch::of(ranked.collect(), preferences.len()))
        };
        Self { shape, done: Vec::new() }
    }

    /// The node for the next task, which is counted there.
    pub(super) fn next<'a>(&mut self, group: &Group<'_>, rooms: &Rooms<'a>) -> Option<Room<'a>> {
        match &mut self.shape {
            Shape::Stream(stream) => stream.next(group, rooms, &mut self.done),
            Shape::Tree(root) => root.next(group, rooms, &mut self.done),
        }
    }

    /// The group with the tasks counted that were placed since, for explaining why the others were not.
    pub(super) fn counted<'a>(&self, group: &Group<'a>) -> Group<'a> {
        let mut counted = group.clone();
        match &self.shape {
            Shape::Stream(stream) => stream.each(|rank| count(&mut counted, rank)),
            Shape::Tree(root) => root.each(&mut |rank| count(&mut counted, rank)),
        }
        self.done.iter().for_each(|rank| count(&mut counted, rank));
        counted
    }
}

fn count(group: &mut Group<'_>, rank: &Rank) {
    if rank.of_service > 0 {
        group.grow(rank.node, rank.of_service);
        if group.apart.from_itself {
            group.apart.nodes.insert(rank.node);
        }
    }
}

impl Rank {
    fn of(group: &Group<'_>, room: &Room<'_>) -> Self {
        let on_node = group.on_node(room.id);
        let load = match group.placement.strategy {
            Strategy::Spread => (on_node.tasks, room.usage.tasks),
            Strategy::Binpack => fill(room.usage.fullness(room.node), room.usage.tasks),
        };
        let fails = on_node.failures >= FAILURES_TOLERATED;
        Self { fails, load, node: room.id, of_service: on_node.tasks, asked: false }
    }

    /// With one more task of the group on the node.
    fn with_one_more(self, group: &Group<'_>, room: &Room<'_>) -> Self {
        let (first, second) = self.load;
        let load = match group.placement.strategy {
            Strategy::Spread => (first + 1, second + 1),
            // What the task has for itself bears on nothing here.
            Strategy::Binpack => {
                let usage = room.usage.clone().with(group.spec, &BTreeMap::new());
                fill(usage.fullness(room.node), usage.tasks)
            }
        };
        Self { load, of_service: self.of_service + 1, asked: true, ..self }
    }

    /// The node, if it can have another task.
    fn room<'a>(&self, group: &Group<'_>, rooms: &Rooms<'a>) -> Option<Room<'a>> {
        let room = rooms.get(self.node)?;
        let unfit = if self.asked {
            group.apart.from_itself
                || filter::is_full(group.placement.max_replicas_per_node, self.of_service)
                || filter::lack(group, &room).is_some()
        } else {
            filter::obstacle(group, &room).is_some()
        };
        (!unfit).then_some(room)
    }
}

/// The best of the heap that can have another task, counted there. What cannot is put aside.
fn next_of<'a>(
    ranks: &mut BinaryHeap<Reverse<Rank>>,
    group: &Group<'_>,
    rooms: &Rooms<'a>,
    done: &mut Vec<Rank>,
) -> Option<Room<'a>> {
    loop {
        let mut best = ranks.peek_mut()?;
        let Some(room) = best.0.room(group, rooms) else {
            done.push(PeekMut::pop(best).0);
            continue;
        };
        best.0 = best.0.with_one_more(group, &room);
        return Some(room);
    }
}

/// A node with its values of the preferred labels.
#[derive(Debug, Clone)]
struct Ranked<'a> {
    rank: Rank,
    values: Vec<&'a str>,
}

impl<'a> Ranked<'a> {
    fn of(group: &Group<'_>, room: Room<'a>, preferences: &[SpreadOver]) -> Self {
        let rank = Rank::of(group, &room);
        let node = room.node;
        Self { rank, values: preferences.iter().map(|preference| preference.branch(node)).collect() }
    }
}

/// The fullest first; where nothing is reserved, that with the most tasks.
const fn fill(fullness: u64, tasks: u64) -> (u64, u64) {
    (u64::MAX - fullness, u64::MAX - tasks)
}

impl Branch {
    /// `levels` of the labels are still to be looked at.
    fn of(ranked: Vec<Ranked<'_>>, levels: usize) -> Self {
        let tasks = ranked.iter().map(|ranked| ranked.rank.of_service).sum();
        if levels == 0 {
            let ranks: Vec<_> = ranked.into_iter().map(|ranked| Reverse(ranked.rank)).collect();
            return Self { tasks, inner: Inner::Nodes(ranks.into()) };
        }
        let mut values: BTreeMap<&str, Vec<Ranked<'_>>> = BTreeMap::new();
        for ranked in ranked {
            let value = ranked.values.iter().rev().nth(levels - 1).copied().unwrap_or_default();
            values.entry(value).or_default().push(ranked);
        }
        let branches = values.into_values().map(|ranked| Reverse(Self::of(ranked, levels - 1)));
        Self { tasks, inner: Inner::Branches(branches.collect()) }
    }

    fn next<'a>(&mut self, group: &Group<'_>, rooms: &Rooms<'a>, done: &mut Vec<Rank>) -> Option<Room<'a>> {
        let room = match &mut self.inner {
            Inner::Nodes(ranks) => next_of(ranks, group, rooms, done),
            Inner::Branches(branches) => loop {
                let mut best = branches.peek_mut()?;
                match best.0.next(group, rooms, done) {
                    Some(room) => break Some(room),
                    None => drop(PeekMut::pop(best)),
                }
            },
        }?;
        self.tasks += 1;
        Some(room)
    }

    /// The node that is next.
    fn best(&self) -> Option<&Rank> {
        match &self.inner {
            Inner::Nodes(ranks) => ranks.peek().map(|Reverse(rank)| rank),
            Inner::Branches(branches) => branches.peek().and_then(|Reverse(branch)| branch.best()),
        }
    }

    fn each(&self, visit: &mut impl FnMut(&Rank)) {
        match &self.inner {
            Inner::Nodes(ranks) => ranks.iter().for_each(|Reverse(rank)| visit(rank)),
            Inner::Branches(branches) => branches.iter().for_each(|Reverse(branch)| branch.each(visit)),
        }
    }
}

/// The branch with the fewest tasks of the service is next; of those that are equal, that with the best node.
impl Ord for Branch {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.tasks, self.best()).cmp(&(other.tasks, other.best()))
    }
}

impl PartialOrd for Branch {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Branch {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Branch {}
