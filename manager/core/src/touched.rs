//! Which keys an entry touched: what watchers and planners look at again.

use std::collections::BTreeSet;

use coracle_model::id::{FileId, NodeId, ServiceId, TaskId};
use coracle_model::task::Task;

use crate::state::State;

/// The keys that an entry touched.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Touched {
    /// The cluster object.
    pub cluster: bool,
    /// Services, and those whose tasks were touched.
    pub services: BTreeSet<ServiceId>,
    /// Nodes, and those whose tasks were touched.
    pub nodes: BTreeSet<NodeId>,
    /// Nodes that were made, removed or changed themselves: what their tasks do concerns nobody but those tasks' services.
    pub changed_nodes: BTreeSet<NodeId>,
    /// Tasks.
    pub tasks: BTreeSet<TaskId>,
    /// The image table.
    pub images: bool,
    /// Secrets and configs, and those that a service or a task began or ceased to use.
    pub files: BTreeSet<FileId>,
    /// A node joined, or what it is or may be used for has changed: not merely its tasks.
    pub membership: bool,
    /// A task that waits for a node may find one now.
    pub pending: bool,
}

impl Touched {
    /// Whether nothing was touched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// All keys of a state, for watchers that must look at everything again.
    #[must_use]
    pub fn everything(state: &State) -> Self {
        Self {
            cluster: true,
            services: state
                .services()
                .map(|service| service.id)
                .chain(state.tasks().map(|task| task.service))
                .collect(),
            nodes: state.nodes().map(|node| node.id).collect(),
            changed_nodes: state.nodes().map(|node| node.id).collect(),
            tasks: state.tasks().map(|task| task.id).collect(),
            images: true,
            files: state.files().map(|file| file.id).collect(),
            membership: true,
            pending: state.pending_count() > 0,
        }
    }

    /// Adds what another entry touched.
    pub fn merge(&mut self, other: Self) {
        self.cluster |= other.cluster;
        self.images |= other.images;
        self.pending |= other.pending;
        self.membership |= other.membership;
        self.files.extend(other.files);
        self.services.extend(other.services);
        self.nodes.extend(other.nodes);
        self.changed_nodes.extend(other.changed_nodes);
        self.tasks.extend(other.tasks);
    }

    pub(crate) fn node(&mut self, node: NodeId) {
        self.nodes.insert(node);
        self.changed_nodes.insert(node);
    }

    pub(crate) fn task(&mut self, task: &Task) {
        self.tasks.insert(task.id);
        self.services.insert(task.service);
        self.nodes.extend(task.node);
    }
}
