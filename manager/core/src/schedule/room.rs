//! What is left on each node while tasks are being placed.

use std::sync::Arc;

use coracle_model::id::NodeId;
use coracle_model::node::Node;
use coracle_model::resources::Resources;

use crate::state::State;

/// A node and what is left on it.
#[derive(Debug)]
pub(super) struct Room<'a> {
    pub(super) node: &'a Arc<Node>,
    pub(super) free: Resources,
    /// Tasks of all services that may run on it.
    pub(super) tasks: u64,
}

/// All nodes, in the order of their identifiers.
#[derive(Debug)]
pub(super) struct Rooms<'a>(Vec<Room<'a>>);

impl<'a> Rooms<'a> {
    pub(super) fn of(state: &'a State) -> Self {
        let room = |node: &'a Arc<Node>| {
            let usage = state.usage(node.id);
            Room { node, free: node.description.resources.minus(usage.reserved), tasks: usage.tasks }
        };
        Self(state.nodes().map(room).collect())
    }

    pub(super) fn all(&self) -> &[Room<'a>] {
        &self.0
    }

    /// The one node, or none.
    pub(super) fn only(&self, node: NodeId) -> &[Room<'a>] {
        self.index_of(node).map_or(&[], |at| &self.0[at..=at])
    }

    pub(super) fn index_of(&self, node: NodeId) -> Option<usize> {
        self.0.binary_search_by_key(&node, |room| room.node.id).ok()
    }

    pub(super) fn at(&self, at: usize) -> &Room<'a> {
        &self.0[at]
    }

    /// Sets room aside for one task.
    pub(super) fn take(&mut self, at: usize, reservations: Resources) -> &'a Arc<Node> {
        let room = &mut self.0[at];
        room.free = room.free.minus(reservations);
        room.tasks += 1;
        room.node
    }
}
