//! What is left on each node while tasks are being placed.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_model::id::{NodeId, ServiceId};
use coracle_model::node::Node;
use coracle_model::resources::Resources;
use coracle_model::service::TaskSpec;

use crate::state::{NodeUsage, State};

/// A node and what is left on it.
#[derive(Debug)]
pub(super) struct Room<'a> {
    pub(super) id: NodeId,
    /// Not looked into before the node's turn comes: that costs more than all else where there are many.
    pub(super) node: &'a Arc<Node>,
    /// What the tasks of all services that may run on it take up.
    pub(super) usage: NodeUsage,
}

impl Room<'_> {
    /// What is not reserved.
    pub(super) fn free(&self) -> Resources {
        self.node.description.resources.minus(self.usage.reserved)
    }
}

/// Things of a node that a task has for itself, by kind.
pub(super) type Given = BTreeMap<String, Vec<String>>;

/// All nodes, in the order of their identifiers, and what was placed on them.
#[derive(Debug)]
pub(super) struct Rooms<'a> {
    rooms: Vec<Room<'a>>,
    placed: BTreeMap<(ServiceId, NodeId), u64>,
}

impl<'a> Rooms<'a> {
    pub(super) fn of(state: &'a State) -> Self {
        let rooms = state.nodes_with_usage().map(|(id, node, usage)| Room { id, node, usage });
        Self { rooms: rooms.collect(), placed: BTreeMap::new() }
    }

    pub(super) fn all(&self) -> &[Room<'a>] {
        &self.rooms
    }

    /// The one node, or none.
    pub(super) fn only(&self, node: NodeId) -> &[Room<'a>] {
        self.index_of(node).map_or(&[], |at| &self.rooms[at..=at])
    }

    pub(super) fn index_of(&self, node: NodeId) -> Option<usize> {
        self.rooms.binary_search_by_key(&node, |room| room.id).ok()
    }

    pub(super) fn at(&self, at: usize) -> &Room<'a> {
        &self.rooms[at]
    }

    /// How many tasks of a service were placed on which node.
    pub(super) fn placed(&self, service: ServiceId) -> impl Iterator<Item = (NodeId, u64)> + '_ {
        let range = (service, NodeId::from_bits(0))..=(service, NodeId::from_bits(u128::MAX));
        self.placed.range(range).map(|((_, node), tasks)| (*node, *tasks))
    }

    /// Sets room aside for one task of a service, and says which of the node's other things the task has.
    pub(super) fn take(&mut self, at: usize, service: ServiceId, spec: &TaskSpec) -> (&'a Arc<Node>, Given) {
        let room = &mut self.rooms[at];
        // The node was asked before: what is not there now is refused when it is applied.
        let given = room.usage.choose(room.node, spec).unwrap_or_default();
        room.usage = std::mem::take(&mut room.usage).with(spec, &given);
        *self.placed.entry((service, room.id)).or_default() += 1;
        (room.node, given)
    }
}
