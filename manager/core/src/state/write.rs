//! Writing the state: every mutation goes through here, so that indices always follow their tables.

use std::sync::Arc;
use std::time::Duration;

use coracle_model::cluster::Cluster;
use coracle_model::id::{IdempotencyKey, NodeId, ServiceId, TaskId};
use coracle_model::image::ImageEntry;
use coracle_model::node::Node;
use coracle_model::rebalance::{RebalancePolicy, RebalanceState};
use coracle_model::service::{Service, ServiceMode, TaskSpec};
use coracle_model::task::{Task, TaskState};
use coracle_model::time::Timestamp;
use coracle_model::version::Version;
use imbl::OrdSet;

use super::{SpecRow, State};
use crate::schedule::relocate::Relocation;

/// How long departures are kept: longer than clocks of managers differ and than certificates are back-dated, by far.
const DEPARTED_KEPT: Duration = Duration::from_secs(24 * 3600);

/// Whether tasks of the service are being moved, or may be moved without being asked for.
fn is_rebalanced(service: &Service) -> bool {
    service.spec.rebalance.policy == RebalancePolicy::Auto
        || service.rebalance.as_ref().is_some_and(|progress| progress.state == RebalanceState::Moving)
}

/// Whether the service is in the list from now on.
fn list(services: &mut OrdSet<ServiceId>, id: ServiceId, is_in: bool) {
    if is_in {
        services.insert(id);
    } else {
        services.remove(&id);
    }
}

impl State {
    pub(crate) fn set_index(&mut self, index: u64) {
        self.index = index;
    }

    pub(crate) fn set_time(&mut self, time: Timestamp) {
        self.time = time;
    }

    pub(crate) fn put_cluster(&mut self, cluster: Arc<Cluster>) {
        self.cluster = Some(cluster);
    }

    pub(crate) fn put_node(&mut self, node: Arc<Node>) {
        let place = (self.usage(node.id).tasks, node.id);
        if node.takes_new_tasks() {
            self.indices.nodes_by_tasks.insert(place);
        } else {
            self.indices.nodes_by_tasks.remove(&place);
        }
        self.nodes.insert(node.id, node);
    }

    pub(crate) fn remove_node(&mut self, id: NodeId) {
        self.nodes.remove(&id);
        self.indices.nodes_by_tasks.remove(&(self.usage(id).tasks, id));
    }

    /// Notes that a node lost its place; those that left long ago are forgotten, so that the table stays small.
    pub(crate) fn put_departed(&mut self, id: NodeId, at: Timestamp) {
        let kept = |(_, then): &(NodeId, Timestamp)| then.after(DEPARTED_KEPT) >= at;
        self.departed = std::mem::take(&mut self.departed).into_iter().filter(kept).collect();
        self.departed.insert(id, at);
    }

    pub(crate) fn put_service(&mut self, service: Arc<Service>) {
        let id = service.id;
        self.indices.service_names.insert(service.spec.name.clone(), id);
        let placement = &service.spec.task.placement;
        list(&mut self.indices.keeping_away, id, !placement.away_from.is_empty());
        list(&mut self.indices.constrained, id, !placement.constraints.is_empty());
        list(&mut self.indices.global_services, id, service.spec.mode == ServiceMode::Global);
        list(&mut self.indices.rebalanced, id, is_rebalanced(&service));
        let before = self.services.insert(id, service);
        if let Some(before) = before {
            self.drop_unused_row(id, before.spec_version);
        }
    }

    pub(crate) fn remove_service(&mut self, id: ServiceId) {
        if let Some(service) = self.services.remove(&id) {
            self.indices.service_names.remove(&service.spec.name);
            self.indices.keeping_away.remove(&id);
            self.indices.constrained.remove(&id);
            self.indices.global_services.remove(&id);
            self.indices.rebalanced.remove(&id);
            self.drop_unused_row(id, service.spec_version);
        }
    }

    pub(crate) fn put_task_spec(&mut self, service: ServiceId, version: Version, spec: Arc<TaskSpec>) {
        self.task_specs.insert((service, version), SpecRow { spec, tasks: 0 });
    }

    pub(crate) fn put_task(&mut self, task: Arc<Task>) {
        let before = self.tasks.insert(task.id, Arc::clone(&task));
        if before.is_none() {
            self.indices.tasks_by_slot.insert((task.service, task.slot, task.id));
            if let Some(row) = self.task_specs.get_mut(&(task.service, task.spec_version)) {
                row.tasks += 1;
            }
        }
        self.index_node(before.as_deref(), &task);
        self.index_pending(before.as_deref(), Some(&task));
        self.index_usage(before.as_deref(), Some(&task));
    }

    /// The state as it would be if the task were on its better node: for looking ahead, never applied.
    pub(crate) fn pretend_moved(&mut self, relocation: &Relocation) {
        let Some(task) = self.task(relocation.task).cloned() else { return };
        let mut gone = (*task).clone();
        gone.status.state = TaskState::Shutdown;
        self.put_task(Arc::new(gone));
        let (node, generic) = (Some(relocation.to), relocation.generic.clone());
        self.put_task(Arc::new(Task { node, generic, running_since: Some(self.time), ..(*task).clone() }));
    }

    pub(crate) fn remove_task(&mut self, id: TaskId) {
        let Some(task) = self.tasks.remove(&id) else { return };
        self.indices.tasks_by_slot.remove(&(task.service, task.slot, task.id));
        if let Some(node) = task.node {
            self.indices.tasks_by_node.remove(&(node, task.service, task.id));
        }
        self.index_pending(Some(&task), None);
        self.index_usage(Some(&task), None);
        if let Some(row) = self.task_specs.get_mut(&(task.service, task.spec_version)) {
            row.tasks = row.tasks.saturating_sub(1);
        }
        self.drop_unused_row(task.service, task.spec_version);
    }

    pub(crate) fn put_image(&mut self, image: Arc<ImageEntry>) {
        self.remove_image(&image.name);
        self.indices.images_by_digest.insert((image.digest, image.name.clone()));
        self.images.insert(image.name.clone(), image);
    }

    pub(crate) fn remove_image(&mut self, name: &str) {
        if let Some(image) = self.images.remove(name) {
            self.indices.images_by_digest.remove(&(image.digest, image.name.clone()));
        }
    }

    pub(crate) fn put_applied_key(&mut self, key: IdempotencyKey, index: u64) {
        self.applied_keys.insert(key, index);
    }

    fn drop_unused_row(&mut self, service: ServiceId, version: Version) {
        let present = self.services.get(&service).is_some_and(|service| service.spec_version == version);
        let unused = self.task_specs.get(&(service, version)).is_some_and(|row| row.tasks == 0);
        if unused && !present {
            self.task_specs.remove(&(service, version));
        }
    }

    fn index_node(&mut self, before: Option<&Task>, after: &Task) {
        let before = before.and_then(|task| task.node);
        if before == after.node {
            return;
        }
        if let Some(node) = before {
            self.indices.tasks_by_node.remove(&(node, after.service, after.id));
        }
        if let Some(node) = after.node {
            self.indices.tasks_by_node.insert((node, after.service, after.id));
        }
    }

    fn index_pending(&mut self, before: Option<&Task>, after: Option<&Task>) {
        let waits = |task: &&Task| task.node.is_none() && task.is_live();
        let key = |task: &Task| (task.service, task.spec_version, task.id);
        match (before.filter(waits), after.filter(waits)) {
            (None, Some(task)) => drop(self.indices.pending.insert(key(task))),
            (Some(task), None) => drop(self.indices.pending.remove(&key(task))),
            _ => {}
        }
    }

    fn order_node(&mut self, node: NodeId, before: u64, after: u64) {
        // A task may be on a node that takes no others, or was removed.
        if self.indices.nodes_by_tasks.remove(&(before, node)).is_some() {
            self.indices.nodes_by_tasks.insert((after, node));
        }
    }

    fn index_usage(&mut self, before: Option<&Task>, after: Option<&Task>) {
        let holds = |task: Option<&Task>| task.filter(|task| task.may_run()).and_then(|task| task.node);
        let (held, holding) = (holds(before), holds(after));
        if held == holding {
            return;
        }
        let Some(task) = after.or(before) else { return };
        // A task comes after its specification and goes before it.
        let Some(spec) = self.task_spec(task.service, task.spec_version).cloned() else { return };
        if let Some(node) = held {
            let before = self.usage(node);
            let present = before.tasks;
            let usage = before.without(&spec, &task.generic);
            self.order_node(node, present, usage.tasks);
            if usage.tasks == 0 {
                self.indices.usage.remove(&node);
            } else {
                self.indices.usage.insert(node, usage);
            }
        }
        if let Some(node) = holding {
            let before = self.usage(node);
            let present = before.tasks;
            let usage = before.with(&spec, &task.generic);
            self.order_node(node, present, usage.tasks);
            self.indices.usage.insert(node, usage);
        }
    }
}
