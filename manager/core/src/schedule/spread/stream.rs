//! Nodes where the service has nothing are equal but for their number of tasks: the state keeps them in that order, and they
//! are taken from there one by one. Only nodes where it has something, or gets something, are ranked here.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::Bound;

use coracle_model::id::NodeId;
use imbl::OrdSet;

use super::super::group::Group;
use super::super::room::{Room, Rooms};
use super::{Rank, next_of};

/// Nodes that are fetched at a time.
const FETCHED: usize = 32;

#[derive(Debug)]
pub(super) struct Stream {
    /// Nodes with tasks of the service, or where it failed of late.
    ranked: BinaryHeap<Reverse<Rank>>,
    /// All nodes as they were when the group's turn came.
    order: OrdSet<(u64, NodeId)>,
    last: Option<(u64, NodeId)>,
    fetched: VecDeque<Rank>,
}

impl Stream {
    pub(super) fn of(group: &Group<'_>, rooms: &Rooms<'_>) -> Self {
        let known = group.on_nodes.keys().filter_map(|node| rooms.get(*node));
        let ranked: Vec<_> = known.map(|room| Reverse(Rank::of(group, &room))).collect();
        Self { ranked: ranked.into(), order: rooms.by_tasks(), last: None, fetched: VecDeque::new() }
    }

    pub(super) fn next<'a>(
        &mut self,
        group: &Group<'_>,
        rooms: &Rooms<'a>,
        done: &mut Vec<Rank>,
    ) -> Option<Room<'a>> {
        while let Some(rank) = self.head(group) {
            if self.ranked.peek().is_some_and(|Reverse(best)| *best < rank) {
                match self.next_ranked(group, rooms, done) {
                    Some(room) => return Some(room),
                    None => continue,
                }
            }
            self.fetched.pop_front();
            if let Some(room) = rank.room(group, rooms) {
                self.ranked.push(Reverse(rank.with_one_more(group, &room)));
                return Some(room);
            }
        }
        next_of(&mut self.ranked, group, rooms, done)
    }

    /// The best node that is ranked, if it can have another task; else it is put aside.
    fn next_ranked<'a>(
        &mut self,
        group: &Group<'_>,
        rooms: &Rooms<'a>,
        done: &mut Vec<Rank>,
    ) -> Option<Room<'a>> {
        let Reverse(rank) = self.ranked.pop()?;
        let Some(room) = rank.room(group, rooms) else {
            done.push(rank);
            return None;
        };
        self.ranked.push(Reverse(rank.with_one_more(group, &room)));
        Some(room)
    }

    /// The next node where the service has nothing.
    fn head(&mut self, group: &Group<'_>) -> Option<Rank> {
        while self.fetched.is_empty() {
            let from = self.last.map_or(Bound::Unbounded, Bound::Excluded);
            let before = self.last;
            for (tasks, node) in self.order.range((from, Bound::Unbounded)).take(FETCHED) {
                self.last = Some((*tasks, *node));
                if !group.on_nodes.contains_key(node) {
                    let load = (0, *tasks);
                    let rank = Rank { fails: false, load, node: *node, of_service: 0, asked: false };
                    self.fetched.push_back(rank);
                }
            }
            if self.last == before {
                return None;
            }
        }
        self.fetched.front().copied()
    }

    pub(super) fn each(&self, visit: impl FnMut(&Rank)) {
        self.ranked.iter().map(|Reverse(rank)| rank).for_each(visit);
    }
}
