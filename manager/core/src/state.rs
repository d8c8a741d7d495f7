//! The replicated state: tables of objects, and indices that follow from them.
//!
//! All maps are persistent (structurally shared), so that cloning a state costs a handful of reference
//! counts: a view is a clone that nobody changes any more. Only [`crate::apply()`] writes.

mod files;
mod keys;
mod read;
mod records;
mod usage;
mod write;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use coracle_model::cluster::Cluster;
use coracle_model::digest::Digest;
use coracle_model::id::{FileId, NodeId, ServiceId, TaskId};
use coracle_model::image::ImageEntry;
use coracle_model::name::ServiceName;
use coracle_model::node::Node;
use coracle_model::secret::{File, FileKind, FileName};
use coracle_model::service::{Service, TaskSpec};
use coracle_model::task::{Slot, Task};
use coracle_model::time::Timestamp;
use coracle_model::version::Version;
use imbl::{OrdMap, OrdSet};

pub(crate) use files::{references, refers};
pub use keys::{AppliedKeys, KEYS_KEPT};
pub use records::{Record, RestoreError};
pub use usage::NodeUsage;

/// An immutable snapshot of the state.
pub type View = Arc<State>;

/// Everything that the managers agree on.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct State {
    index: u64,
    time: Timestamp,
    cluster: Option<Arc<Cluster>>,
    nodes: OrdMap<NodeId, Arc<Node>>,
    /// Nodes that were removed, and managers that left Raft, with when: their certificates outlive their rights.
    departed: OrdMap<NodeId, Timestamp>,
    services: OrdMap<ServiceId, Arc<Service>>,
    task_specs: OrdMap<(ServiceId, Version), SpecRow>,
    tasks: OrdMap<TaskId, Arc<Task>>,
    images: OrdMap<String, Arc<ImageEntry>>,
    files: OrdMap<FileId, Arc<File>>,
    applied_keys: AppliedKeys,
    indices: Indices,
}

/// One immutable specification, and how many tasks refer to it.
#[derive(Debug, Clone, PartialEq)]
struct SpecRow {
    spec: Arc<TaskSpec>,
    tasks: u64,
}

/// What follows from the tables and is never stored.
#[derive(Debug, Clone, PartialEq, Default)]
struct Indices {
    service_names: OrdMap<ServiceName, ServiceId>,
    file_names: OrdMap<(FileKind, FileName), FileId>,
    /// Names of images by what they resolve to.
    images_by_digest: OrdSet<(Digest, String)>,
    tasks_by_slot: OrdSet<(ServiceId, Slot, TaskId)>,
    tasks_by_node: OrdSet<(NodeId, ServiceId, TaskId)>,
    /// Live tasks without a node.
    pending: OrdSet<(ServiceId, Version, TaskId)>,
    usage: OrdMap<NodeId, NodeUsage>,
    /// Services with something that their tasks keep away from: few, and asked about for every task that is placed.
    keeping_away: OrdSet<ServiceId>,
    /// Services with a task on every node: asked about for every node that changes.
    global_services: OrdSet<ServiceId>,
    /// Services with constraints: asked about for every node that changes.
    constrained: OrdSet<ServiceId>,
    /// Services whose tasks are moved to better nodes, or may be by themselves: asked about for every node that changes.
    rebalanced: OrdSet<ServiceId>,
    /// Nodes that take tasks by how many may run on them: the order in which a service without tasks comes to them.
    nodes_by_tasks: OrdSet<(u64, NodeId)>,
}
