//! In which order nodes get tasks.
//!
//! The service's tasks are divided equally among the values of the first label that it prefers, those of each value among
//! the values of the next label, and so on; among the nodes that are alike in all of them by the service's strategy.

use std::cmp::{Ordering, Reverse};
use std::collections::binary_heap::PeekMut;
use std::collections::{BTreeMap, BinaryHeap};

use coracle_model::placement::{SpreadOver, Strategy};

use super::filter;
use super::group::{FAILURES_TOLERATED, Group};
use super::room::{Room, Rooms};

/// The nodes in the order in which they get tasks of the group. Whether one can have any is asked when its turn comes.
#[derive(Debug)]
pub(super) struct Candidates {
    root: Branch,
    asked: Asked,
}

/// What is known of the nodes that had a turn.
#[derive(Debug)]
struct Asked {
    /// Nodes that can have no more, with what the service has there now.
    done: Vec<Rank>,
    /// Whether a node, by its place, was asked about everything; what can change later is only how full it is.
    before: Vec<bool>,
}

/// Less is better; fields in the order of their weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// The service fails there.
    fails: bool,
    /// By the strategy.
    load: (u64, u64),
    /// Place of the node among all, which are in the order of their identifiers.
    at: usize,
    /// Tasks of the service on the node.
    of_service: u64,
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
        let ranks: Vec<Rank> =
            rooms.all().iter().enumerate().map(|(at, room)| Rank::of(group, room, at)).collect();
        let asked = Asked { done: Vec::new(), before: vec![false; ranks.len()] };
        Self { root: Branch::of(ranks, &group.placement.preferences, rooms), asked }
    }

    /// The node for the next task, which is counted there.
    pub(super) fn next(&mut self, group: &Group<'_>, rooms: &Rooms<'_>) -> Option<usize> {
        self.root.next(group, rooms, &mut self.asked)
    }

    /// The group with the tasks counted that were placed since, for explaining why the others were not.
    pub(super) fn counted<'a>(&self, group: &Group<'a>, rooms: &Rooms<'_>) -> Group<'a> {
        let mut counted = group.clone();
        self.root.each(&mut |rank| count(&mut counted, rooms, rank));
        self.asked.done.iter().for_each(|rank| count(&mut counted, rooms, rank));
        counted
    }
}

fn count(group: &mut Group<'_>, rooms: &Rooms<'_>, rank: &Rank) {
    if rank.of_service > 0 {
        let node = rooms.at(rank.at).id;
        group.on_nodes.entry(node).or_default().tasks = rank.of_service;
        if group.apart.from_itself {
            group.apart.nodes.insert(node);
        }
    }
}

impl Rank {
    fn of(group: &Group<'_>, room: &Room<'_>, at: usize) -> Self {
        let on_node = group.on_node(room.id);
        let load = match group.placement.strategy {
            Strategy::Spread => (on_node.tasks, room.usage.tasks),
            Strategy::Binpack => fill(room.usage.fullness(room.node), room.usage.tasks),
        };
        Self { fails: on_node.failures >= FAILURES_TOLERATED, load, at, of_service: on_node.tasks }
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
        Self { load, of_service: self.of_service + 1, ..self }
    }
}

/// The fullest first; where nothing is reserved, that with the most tasks.
const fn fill(fullness: u64, tasks: u64) -> (u64, u64) {
    (u64::MAX - fullness, u64::MAX - tasks)
}

impl Asked {
    /// Whether a node cannot have another task.
    fn is_unfit(&mut self, group: &Group<'_>, rooms: &Rooms<'_>, rank: &Rank) -> bool {
        let room = rooms.at(rank.at);
        if std::mem::replace(&mut self.before[rank.at], true) {
            // It was asked before, and got a task then.
            group.apart.from_itself
                || filter::is_full(group.placement.max_replicas_per_node, rank.of_service)
                || filter::lack(group, room).is_some()
        } else {
            filter::obstacle(group, room).is_some()
        }
    }
}

impl Branch {
    fn of(ranks: Vec<Rank>, preferences: &[SpreadOver], rooms: &Rooms<'_>) -> Self {
        let tasks = ranks.iter().map(|rank| rank.of_service).sum();
        let Some((first, rest)) = preferences.split_first() else {
            let ranks: Vec<_> = ranks.into_iter().map(Reverse).collect();
            return Self { tasks, inner: Inner::Nodes(ranks.into()) };
        };
        let mut values: BTreeMap<&str, Vec<Rank>> = BTreeMap::new();
        for rank in ranks {
            values.entry(first.branch(rooms.at(rank.at).node)).or_default().push(rank);
        }
        let branches = values.into_values().map(|ranks| Reverse(Self::of(ranks, rest, rooms)));
        Self { tasks, inner: Inner::Branches(branches.collect()) }
    }

    fn next(&mut self, group: &Group<'_>, rooms: &Rooms<'_>, asked: &mut Asked) -> Option<usize> {
        let at = match &mut self.inner {
            Inner::Nodes(ranks) => next_node(ranks, group, rooms, asked),
            Inner::Branches(branches) => loop {
                let mut best = branches.peek_mut()?;
                match best.0.next(group, rooms, asked) {
                    Some(at) => break Some(at),
                    None => drop(PeekMut::pop(best)),
                }
            },
        }?;
        self.tasks += 1;
        Some(at)
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

fn next_node(
    ranks: &mut BinaryHeap<Reverse<Rank>>,
    group: &Group<'_>,
    rooms: &Rooms<'_>,
    asked: &mut Asked,
) -> Option<usize> {
    loop {
        let mut best = ranks.peek_mut()?;
        let rank = best.0;
        if asked.is_unfit(group, rooms, &rank) {
            asked.done.push(PeekMut::pop(best).0);
            continue;
        }
        best.0 = rank.with_one_more(group, rooms.at(rank.at));
        return Some(rank.at);
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
