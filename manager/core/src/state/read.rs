//! Reading the state. Every list comes in the order of its identifiers.

use std::sync::Arc;

use coracle_model::cluster::{Cluster, ClusterSpec};
use coracle_model::digest::Digest;
use coracle_model::id::{IdempotencyKey, NodeId, ServiceId, TaskId};
use coracle_model::image::ImageEntry;
use coracle_model::name::ServiceName;
use coracle_model::node::{Node, NodeState, Platform};
use coracle_model::service::{Service, TaskSpec};
use coracle_model::task::{Slot, Task};
use coracle_model::time::Timestamp;
use coracle_model::version::Version;

use imbl::OrdSet;

use super::{AppliedKeys, NodeUsage, State};

const FIRST_SLOT: Slot = Slot::Number(0);
const LAST_SLOT: Slot = Slot::Node(NodeId::from_bits(u128::MAX));
const FIRST_SERVICE: ServiceId = ServiceId::from_bits(0);
const LAST_SERVICE: ServiceId = ServiceId::from_bits(u128::MAX);
const FIRST_TASK: TaskId = TaskId::from_bits(0);
const LAST_TASK: TaskId = TaskId::from_bits(u128::MAX);

impl State {
    /// The Raft index of the last entry that was applied.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Cluster time: rises with every entry.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// The cluster object.
    #[must_use]
    pub fn cluster(&self) -> Option<&Arc<Cluster>> {
        self.cluster.as_ref()
    }

    /// What operators can tune, or the defaults while there is no cluster object.
    #[must_use]
    pub fn cluster_spec(&self) -> ClusterSpec {
        self.cluster.as_ref().map_or_else(ClusterSpec::default, |cluster| cluster.spec.clone())
    }

    /// One node.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&Arc<Node>> {
        self.nodes.get(&id)
    }

    /// When a node was removed, or left Raft, for the last time. Known for as long as its certificate may seem to be newer than
    /// this state.
    #[must_use]
    pub fn departed_at(&self, id: NodeId) -> Option<Timestamp> {
        self.departed.get(&id).copied()
    }

    /// All nodes.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = &Arc<Node>> + '_ {
        self.nodes.values()
    }

    /// How many nodes there are.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Whether a process on this node is out of reach: the node is down or was removed.
    #[must_use]
    pub fn is_node_lost(&self, id: NodeId) -> bool {
        self.node(id).is_none_or(|node| node.status.state == NodeState::Down)
    }

    /// What the tasks on a node take up.
    #[must_use]
    pub fn usage(&self, node: NodeId) -> NodeUsage {
        self.indices.usage.get(&node).cloned().unwrap_or_default()
    }

    /// All nodes in the order of their identifiers, with what the tasks on them take up: without a search for each.
    pub(crate) fn nodes_with_usage(&self) -> impl Iterator<Item = (NodeId, &Arc<Node>, NodeUsage)> + '_ {
        let mut usages = self.indices.usage.iter().peekable();
        self.nodes.iter().map(move |(id, node)| {
            while usages.next_if(|(used, _)| *used < id).is_some() {}
            let usage = usages
                .next_if(|(used, _)| *used == id)
                .map_or_else(NodeUsage::default, |(_, usage)| usage.clone());
            (*id, node, usage)
        })
    }

    /// Services with a task on every node that takes it.
    pub fn global_services(&self) -> impl Iterator<Item = &Arc<Service>> + '_ {
        self.indices.global_services.iter().filter_map(|id| self.services.get(id))
    }

    /// Services whose tasks are moved to better nodes, or may be by themselves.
    pub fn rebalanced_services(&self) -> impl Iterator<Item = ServiceId> + '_ {
        self.indices.rebalanced.iter().copied()
    }

    /// Whether a service is one of those.
    #[must_use]
    pub fn is_rebalanced(&self, service: ServiceId) -> bool {
        self.indices.rebalanced.contains(&service)
    }

    /// Nodes that take tasks by how many may run on them, then by identifier. Cloning it costs nothing.
    pub(crate) fn nodes_by_tasks(&self) -> &OrdSet<(u64, NodeId)> {
        &self.indices.nodes_by_tasks
    }

    /// Services with something that their tasks keep away from.
    pub(crate) fn services_keeping_away(&self) -> impl Iterator<Item = &Arc<Service>> + '_ {
        self.indices.keeping_away.iter().filter_map(|id| self.services.get(id))
    }

    /// One service.
    #[must_use]
    pub fn service(&self, id: ServiceId) -> Option<&Arc<Service>> {
        self.services.get(&id)
    }

    /// The service of this name.
    #[must_use]
    pub fn service_by_name(&self, name: &ServiceName) -> Option<&Arc<Service>> {
        self.services.get(self.indices.service_names.get(name)?)
    }

    /// All services.
    pub fn services(&self) -> impl DoubleEndedIterator<Item = &Arc<Service>> + '_ {
        self.services.values()
    }

    /// What tasks of this version of the service are made of.
    #[must_use]
    pub fn task_spec(&self, service: ServiceId, version: Version) -> Option<&Arc<TaskSpec>> {
        self.task_specs.get(&(service, version)).map(|row| &row.spec)
    }

    /// All specifications that are in use.
    pub fn task_specs(&self) -> impl Iterator<Item = (ServiceId, Version, &Arc<TaskSpec>)> + '_ {
        self.task_specs.iter().map(|((service, version), row)| (*service, *version, &row.spec))
    }

    /// One task.
    #[must_use]
    pub fn task(&self, id: TaskId) -> Option<&Arc<Task>> {
        self.tasks.get(&id)
    }

    /// All tasks.
    pub fn tasks(&self) -> impl DoubleEndedIterator<Item = &Arc<Task>> + '_ {
        self.tasks.values()
    }

    /// How many tasks there are.
    #[must_use]
    pub fn task_count(&self) -> usize {
        self.tasks.len()
    }

    /// The tasks of a service, also of one that was removed, slot by slot.
    pub fn tasks_of_service(&self, service: ServiceId) -> impl Iterator<Item = &Arc<Task>> + '_ {
        let range = (service, FIRST_SLOT, FIRST_TASK)..=(service, LAST_SLOT, LAST_TASK);
        self.indices.tasks_by_slot.range(range).filter_map(|(_, _, task)| self.tasks.get(task))
    }

    /// The tasks that fill or have filled a slot.
    pub fn tasks_of_slot(&self, service: ServiceId, slot: Slot) -> impl Iterator<Item = &Arc<Task>> + '_ {
        let range = (service, slot, FIRST_TASK)..=(service, slot, LAST_TASK);
        self.indices.tasks_by_slot.range(range).filter_map(|(_, _, task)| self.tasks.get(task))
    }

    /// The tasks that have this node, ended ones too, service by service.
    pub fn tasks_on_node(&self, node: NodeId) -> impl Iterator<Item = &Arc<Task>> + '_ {
        self.on_node(node).filter_map(|(_, _, task)| self.tasks.get(task))
    }

    /// The tasks of a service that have this node, ended ones too.
    pub fn tasks_of_service_on_node(
        &self,
        service: ServiceId,
        node: NodeId,
    ) -> impl Iterator<Item = &Arc<Task>> + '_ {
        let range = (node, service, FIRST_TASK)..=(node, service, LAST_TASK);
        self.indices.tasks_by_node.range(range).filter_map(|(_, _, task)| self.tasks.get(task))
    }

    /// The services of the tasks that have this node, ended ones too.
    pub fn services_on_node(&self, node: NodeId) -> impl Iterator<Item = ServiceId> + '_ {
        let mut last = None;
        let services = self.on_node(node).map(|(_, service, _)| *service);
        services.filter(move |service| last.replace(*service) != Some(*service))
    }

    /// Services with constraints that have tasks on this node, ended ones too. Looks at no task.
    pub(crate) fn constrained_services_on_node(&self, node: NodeId) -> impl Iterator<Item = ServiceId> + '_ {
        let constrained = &self.indices.constrained;
        let on_node = (!constrained.is_empty()).then(|| self.services_on_node(node));
        on_node.into_iter().flatten().filter(|service| constrained.contains(service))
    }

    fn on_node(&self, node: NodeId) -> impl Iterator<Item = &(NodeId, ServiceId, TaskId)> + '_ {
        let range = (node, FIRST_SERVICE, FIRST_TASK)..=(node, LAST_SERVICE, LAST_TASK);
        self.indices.tasks_by_node.range(range)
    }

    /// Live tasks that wait for a node, with those of one specification side by side.
    pub fn pending_tasks(&self) -> impl Iterator<Item = &Arc<Task>> + '_ {
        self.indices.pending.iter().filter_map(|(_, _, task)| self.tasks.get(task))
    }

    /// How many live tasks wait for a node.
    #[must_use]
    pub fn pending_count(&self) -> usize {
        self.indices.pending.len()
    }

    /// What an image name resolves to.
    #[must_use]
    pub fn image(&self, name: &str) -> Option<&Arc<ImageEntry>> {
        self.images.get(name)
    }

    /// What an image runs on, of which only the digest is known; nothing when no name resolves to it any more.
    pub(crate) fn platform_of(&self, digest: Digest) -> Option<&Platform> {
        let names = self.indices.images_by_digest.range((digest, String::new())..);
        let (_, name) = names.take_while(|(other, _)| *other == digest).next()?;
        self.images.get(name).map(|image| &image.platform)
    }

    /// The image table, by name.
    pub fn images(&self) -> impl DoubleEndedIterator<Item = &Arc<ImageEntry>> + '_ {
        self.images.values()
    }

    /// Whether a service, or a task that is still kept, is made of this image or mounts it.
    #[must_use]
    pub fn is_image_used(&self, digest: Digest) -> bool {
        self.task_specs.values().any(|row| row.spec.container.images().any(|image| image.digest == digest))
    }

    /// The marks of writes that were applied.
    #[must_use]
    pub fn applied_keys(&self) -> &AppliedKeys {
        &self.applied_keys
    }

    /// The index at which the write with this mark was applied.
    #[must_use]
    pub fn applied_at(&self, key: IdempotencyKey) -> Option<u64> {
        self.applied_keys.index_of(key)
    }
}
