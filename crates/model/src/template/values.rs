//! What the placeholders of a task stand for.

use std::collections::BTreeMap;

use super::Placeholder;
use crate::id::{NodeId, ServiceId, TaskId};
use crate::service::{ServiceMode, ServiceSpec};
use crate::task::Slot;

/// What the placeholders of one task on one node stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Values {
    /// Of the service.
    pub service_id: String,
    /// Of the service.
    pub service_name: String,
    /// Of the service, when the task was given to its node.
    pub service_labels: BTreeMap<String, String>,
    /// Of the node.
    pub node_id: String,
    /// Of the node.
    pub node_hostname: String,
    /// Of the node, in the image format's words (`amd64`, `arm64`).
    pub node_architecture: String,
    /// Of the node, in the image format's words (`linux`).
    pub node_os: String,
    /// Of the task.
    pub task_id: String,
    /// `SERVICE.SLOT.TASK`, as in Swarm.
    pub task_name: String,
    /// The task's number, or the id of the node where the service has one task on each node.
    pub task_slot: String,
}

/// The node that a task runs on, as its placeholders tell of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Its id.
    pub id: String,
    /// Its host name.
    pub hostname: String,
    /// Its architecture.
    pub architecture: String,
    /// Its operating system.
    pub os: String,
}

impl Values {
    /// Those of a task.
    #[must_use]
    pub fn of(
        service: (ServiceId, &str, &BTreeMap<String, String>),
        node: &NodeFacts,
        task: TaskId,
        slot: Slot,
    ) -> Self {
        let (service_id, service_name, service_labels) = service;
        Self {
            service_id: service_id.to_string(),
            service_name: service_name.to_owned(),
            service_labels: service_labels.clone(),
            node_id: node.id.clone(),
            node_hostname: node.hostname.clone(),
            node_architecture: node.architecture.clone(),
            node_os: node.os.clone(),
            task_id: task.to_string(),
            task_name: format!("{service_name}.{slot}.{task}"),
            task_slot: slot.to_string(),
        }
    }

    /// Those of a task that there could be: as long as real ones, and the service's own where they are known.
    #[must_use]
    pub fn example(spec: &ServiceSpec) -> Self {
        let node = NodeId::from_bits(1);
        let facts = NodeFacts {
            id: node.to_string(),
            hostname: "node".to_owned(),
            architecture: "amd64".to_owned(),
            os: "linux".to_owned(),
        };
        let slot = match spec.mode {
            ServiceMode::Global | ServiceMode::GlobalJob => Slot::Node(node),
            ServiceMode::Replicated { .. } | ServiceMode::ReplicatedJob { .. } => Slot::Number(1),
        };
        let service = (ServiceId::from_bits(1), spec.name.as_str(), &spec.labels);
        Self::of(service, &facts, TaskId::from_bits(1), slot)
    }

    /// What one stands for; nothing for those that only secrets and configs have. A label that there is not is empty.
    #[must_use]
    pub fn get(&self, placeholder: &Placeholder) -> Option<&str> {
        Some(match placeholder {
            Placeholder::ServiceId => &self.service_id,
            Placeholder::ServiceName => &self.service_name,
            Placeholder::ServiceLabel(key) => self.service_labels.get(key).map_or("", String::as_str),
            Placeholder::NodeId => &self.node_id,
            Placeholder::NodeHostname => &self.node_hostname,
            Placeholder::NodeArchitecture => &self.node_architecture,
            Placeholder::NodeOs => &self.node_os,
            Placeholder::TaskId => &self.task_id,
            Placeholder::TaskName => &self.task_name,
            Placeholder::TaskSlot => &self.task_slot,
            Placeholder::Secret(_) | Placeholder::Config(_) | Placeholder::Variable(_) => return None,
        })
    }
}
