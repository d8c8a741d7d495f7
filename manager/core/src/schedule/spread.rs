//! In which order nodes get tasks: spread the service's tasks, then all tasks.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::filter;
use super::group::{FAILURES_TOLERATED, Group};
use super::room::{Room, Rooms};

/// The nodes in the order in which they get tasks of the group. Whether one can have any is asked when its turn comes.
#[derive(Debug)]
pub(super) struct Candidates {
    heap: BinaryHeap<Reverse<Rank>>,
    /// Nodes that can have no more, with what the service has there now.
    done: Vec<Rank>,
    /// Whether a node, by its place, was asked about everything; what can change later is only how full it is.
    asked: Vec<bool>,
}

/// Less is better; fields in the order of their weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// The service fails there.
    fails: bool,
    /// Tasks of the service on the node.
    of_service: u64,
    /// Tasks of all services on the node.
    tasks: u64,
    /// Place of the node among all, which are in the order of their identifiers.
    at: usize,
}

impl Candidates {
    pub(super) fn of(group: &Group<'_>, rooms: &Rooms<'_>) -> Self {
        let rank = |(at, room): (usize, &Room<'_>)| {
            let on_node = group.on_node(room.id);
            let fails = on_node.failures >= FAILURES_TOLERATED;
            Reverse(Rank { fails, of_service: on_node.tasks, tasks: room.tasks(), at })
        };
        let ranks: Vec<_> = rooms.all().iter().enumerate().map(rank).collect();
        Self { asked: vec![false; ranks.len()], heap: ranks.into(), done: Vec::new() }
    }

    /// The node for the next task, which is counted there.
    pub(super) fn next(&mut self, group: &Group<'_>, rooms: &Rooms<'_>) -> Option<usize> {
        loop {
            let mut best = self.heap.peek_mut()?;
            let rank = best.0;
            let room = rooms.at(rank.at);
            let unfit = if std::mem::replace(&mut self.asked[rank.at], true) {
                filter::is_full(group.placement.max_replicas_per_node, rank.of_service)
                    || filter::lack(group, room).is_some()
            } else {
                filter::obstacle(group, room).is_some()
            };
            if unfit {
                self.done.push(std::collections::binary_heap::PeekMut::pop(best).0);
                continue;
            }
            best.0.of_service += 1;
            best.0.tasks += 1;
            return Some(rank.at);
        }
    }

    /// The group with the tasks counted that were placed since, for explaining why the others were not.
    pub(super) fn counted<'a>(&self, group: &Group<'a>, rooms: &Rooms<'_>) -> Group<'a> {
        let mut counted = group.clone();
        let ranks = self.done.iter().chain(self.heap.iter().map(|Reverse(rank)| rank));
        for rank in ranks.filter(|rank| rank.of_service > 0) {
            counted.on_nodes.entry(rooms.at(rank.at).id).or_default().tasks = rank.of_service;
        }
        counted
    }
}
