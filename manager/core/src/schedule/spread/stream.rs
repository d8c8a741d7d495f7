//! Nodes where the service has nothing are equal but for their number of tasks, and come before all others: the state keeps
//! nodes in that order, and they are taken from there one by one. Those where the service turns out to have something are
//! ranked on the way, and are complete when it is their turn.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::Bound;

use coracle_model::id::NodeId;
use imbl::OrdSet;

use super::super::filter;
use super::super::group::Group;
use super::super::room::{Room, Rooms};
use super::{Rank, next_of};

/// Nodes that are fetched at a time.
const FETCHED: usize = 32;

#[derive(Debug)]
pub(super) struct Stream {
    /// Nodes that were come by and have tasks of the service, or where it fails.
    ranked: BinaryHeap<Reverse<Rank>>,
    /// Nodes that take tasks as they were when the group's turn came.
    order: OrdSet<(u64, NodeId)>,
    last: Option<(u64, NodeId)>,
    fetched: VecDeque<NodeId>,
}

impl Stream {
    pub(super) fn of(rooms: &Rooms<'_>) -> Self {
        let order = rooms.by_tasks();
        Self { ranked: BinaryHeap::new(), order, last: None, fetched: VecDeque::new() }
    }

    pub(super) fn next<'a>(
        &mut self,
        group: &Group<'_>,
        rooms: &Rooms<'a>,
        done: &mut Vec<Rank>,
    ) -> Option<Room<'a>> {
        while let Some(node) = self.fetch() {
            let Some(room) = rooms.get(node) else { continue };
            // Nodes only fill up: what it cannot have now it cannot have later.
            if filter::obstacle(group, &room).is_some() {
                continue;
            }
            let rank = Rank::of(group, &room);
            if rank.fails || rank.of_service > 0 {
                self.ranked.push(Reverse(rank));
            } else {
                self.ranked.push(Reverse(rank.with_one_more(group, &room)));
                return Some(room);
            }
        }
        next_of(&mut self.ranked, group, rooms, done)
    }

    /// The next node in the order of their tasks.
    fn fetch(&mut self) -> Option<NodeId> {
        if self.fetched.is_empty() {
            let from = self.last.map_or(Bound::Unbounded, Bound::Excluded);
            for (tasks, node) in self.order.range((from, Bound::Unbounded)).take(FETCHED) {
                self.last = Some((*tasks, *node));
                self.fetched.push_back(*node);
            }
        }
        self.fetched.pop_front()
    }

    pub(super) fn each(&self, visit: impl FnMut(&Rank)) {
        self.ranked.iter().map(|Reverse(rank)| rank).for_each(visit);
    }
}
