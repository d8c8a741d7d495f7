//! What is left on each node while tasks are being placed.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_model::id::{NodeId, ServiceId};
use coracle_model::node::Node;
use coracle_model::resources::Resources;
use coracle_model::service::TaskSpec;
use imbl::OrdSet;

use crate::state::{NodeUsage, State};

/// A node and what is left on it.
#[derive(Debug)]
pub(super) struct Room<'a> {
    pub(super) id: NodeId,
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

/// All nodes, and what was placed on them. Nodes are looked up when their turn comes: where there are many, most tasks need
/// few of them.
#[derive(Debug)]
pub(super) struct Rooms<'a> {
    state: &'a State,
    /// Nodes that got tasks since.
    changed: BTreeMap<NodeId, NodeUsage>,
    /// Nodes that take tasks by how many may run on them, but for those in `moved`.
    order: OrdSet<(u64, NodeId)>,
    /// Nodes that got tasks since they were put in order, with the number of tasks by which they are: one group may place
    /// thousands before another asks.
    moved: BTreeMap<NodeId, u64>,
    placed: BTreeMap<(ServiceId, NodeId), u64>,
}

impl<'a> Rooms<'a> {
    pub(super) fn of(state: &'a State) -> Self {
        let order = state.nodes_by_tasks().clone();
        Self { state, changed: BTreeMap::new(), order, moved: BTreeMap::new(), placed: BTreeMap::new() }
    }

    /// All nodes in the order of their identifiers.
    pub(super) fn all(&self) -> impl Iterator<Item = Room<'a>> + '_ {
        self.state.nodes_with_usage().map(|(id, node, usage)| {
            let usage = self.changed.get(&id).cloned().unwrap_or(usage);
            Room { id, node, usage }
        })
    }

    /// One node.
    pub(super) fn get(&self, id: NodeId) -> Option<Room<'a>> {
        let node = self.state.node(id)?;
        let usage = self.changed.get(&id).cloned().unwrap_or_else(|| self.state.usage(id));
        Some(Room { id, node, usage })
    }

    /// Puts the nodes that got tasks where they belong by now.
    pub(super) fn put_in_order(&mut self) {
        for (id, before) in std::mem::take(&mut self.moved) {
            let now = self.changed.get(&id).map_or(before, |usage| usage.tasks);
            self.order.remove(&(before, id));
            self.order.insert((now, id));
        }
    }

    /// Nodes that take tasks by how many may run on them, then by identifier, as it was when they were last put in order.
    pub(super) fn by_tasks(&self) -> OrdSet<(u64, NodeId)> {
        self.order.clone()
    }

    /// How many tasks of a service were placed on which node.
    pub(super) fn placed(&self, service: ServiceId) -> impl Iterator<Item = (NodeId, u64)> + '_ {
        let range = (service, NodeId::from_bits(0))..=(service, NodeId::from_bits(u128::MAX));
        self.placed.range(range).map(|((_, node), tasks)| (*node, *tasks))
    }

    /// Sets room aside for one task of a service, and says which of the node's other things the task has.
    pub(super) fn take(&mut self, room: Room<'_>, service: ServiceId, spec: &TaskSpec) -> Given {
        // The node was asked before: what is not there now is refused when it is applied.
        let given = room.usage.choose(room.node, spec).unwrap_or_default();
        let (id, before) = (room.id, room.usage.tasks);
        let usage = room.usage.with(spec, &given);
        self.moved.entry(id).or_insert(before);
        self.changed.insert(id, usage);
        *self.placed.entry((service, id)).or_default() += 1;
        given
    }
}
