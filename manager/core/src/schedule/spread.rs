//! In which order nodes get tasks: spread the service's tasks, then all tasks.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::filter;
use super::group::{FAILURES_TOLERATED, Group};
use super::room::Rooms;

/// The nodes that can have a task of the group, best first.
#[derive(Debug)]
pub(super) struct Candidates {
    heap: BinaryHeap<Reverse<Rank>>,
    /// Nodes that were filled up, with what the service has there now.
    filled: Vec<Rank>,
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
        let rank = |(at, room): (usize, &super::room::Room<'_>)| {
            let on_node = group.on_node(room.node.id);
            let fails = on_node.failures >= FAILURES_TOLERATED;
            filter::obstacle(group, room).is_none().then_some(Reverse(Rank {
                fails,
                of_service: on_node.tasks,
                tasks: room.tasks,
                at,
            }))
        };
        Self { heap: rooms.all().iter().enumerate().filter_map(rank).collect(), filled: Vec::new() }
    }

    /// The node for the next task, which is counted there.
    pub(super) fn next(&mut self, group: &Group<'_>, rooms: &Rooms<'_>) -> Option<usize> {
        loop {
            let mut best = self.heap.peek_mut()?;
            let rank = best.0;
            let full = filter::is_full(group.placement.max_replicas_per_node, rank.of_service)
                || filter::lack(group, rooms.at(rank.at)).is_some();
            if full {
                self.filled.push(std::collections::binary_heap::PeekMut::pop(best).0);
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
        for rank in self.filled.iter().chain(self.heap.iter().map(|Reverse(rank)| rank)) {
            counted.on_nodes.entry(rooms.at(rank.at).node.id).or_default().tasks = rank.of_service;
        }
        counted
    }
}
