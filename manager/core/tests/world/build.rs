//! Nodes and services for tests.

use std::collections::BTreeMap;
use std::time::Duration;

use coracle_manager_core::Change;
use coracle_model::cluster::{Cluster, ClusterSpec, Secret};
use coracle_model::digest::Digest;
use coracle_model::id::{ClusterId, NodeId, ServiceId};
use coracle_model::node::{Availability, Node, NodeDescription, NodeSpec, NodeState, NodeStatus, Platform};
use coracle_model::resources::{MemoryBytes, NanoCpus, Resources};
use coracle_model::role::Role;
use coracle_model::service::{ContainerSpec, PinnedImage, Service, ServiceMode, ServiceSpec, TaskSpec};
use coracle_model::task::DesiredState;
use coracle_model::time::Timestamp;
use coracle_model::version::Version;

use super::World;

pub const CPU: u64 = 1_000_000_000;
pub const GIB: u64 = 1 << 30;

pub fn resources(cpu: u64, memory: u64) -> Resources {
    Resources { cpu: NanoCpus(cpu), memory: MemoryBytes(memory) }
}

pub fn node(id: u128, name: &str, resources: Resources) -> Node {
    Node {
        id: NodeId::from_bits(id),
        version: Version::default(),
        created_at: Timestamp::EPOCH,
        spec: NodeSpec { role: Role::Worker, availability: Availability::Active, labels: BTreeMap::new() },
        description: NodeDescription {
            hostname: name.to_owned(),
            platform: Platform { os: "linux".to_owned(), architecture: "amd64".to_owned() },
            resources,
            ..NodeDescription::default()
        },
        status: NodeStatus {
            state: NodeState::Ready,
            since: Timestamp::EPOCH,
            message: String::new(),
            address: format!("10.0.0.{id}:2377"),
        },
        manager: None,
    }
}

pub fn task_spec() -> TaskSpec {
    let digest = Digest::from_bytes([1; 32]);
    TaskSpec::of(ContainerSpec::of(PinnedImage { reference: "app:1".to_owned(), digest }))
}

pub fn service_spec(name: &str, replicas: u64) -> ServiceSpec {
    let mut spec = ServiceSpec::of(name.parse().unwrap(), ServiceMode::Replicated { replicas }, task_spec());
    // Scripts and tests say how long new tasks are watched where that matters.
    spec.update.monitor = Duration::ZERO;
    (spec.update.timeout, spec.rollback.timeout) = (Duration::ZERO, Duration::ZERO);
    spec.rollback.monitor = Duration::ZERO;
    spec
}

pub fn service(id: u128, spec: ServiceSpec) -> Service {
    Service {
        id: ServiceId::from_bits(id),
        version: Version::default(),
        spec_version: Version::default(),
        created_at: Timestamp::EPOCH,
        updated_at: Timestamp::EPOCH,
        spec,
        previous_spec: None,
        update: None,
        job: None,
        rebalance: None,
    }
}

pub fn cluster(spec: ClusterSpec) -> Cluster {
    Cluster {
        id: ClusterId::from_bits(1),
        version: Version::default(),
        created_at: Timestamp::EPOCH,
        feature_level: 1,
        root_certificate: String::new(),
        root_key: Secret::default(),
        worker_token: Secret::default(),
        manager_token: Secret::default(),
        ticket_key: Secret::default(),
        next_raft_id: 2,
        spec,
    }
}

impl World {
    pub fn add_node(&mut self, node: Node) {
        self.nodes.insert(node.description.hostname.clone(), node.id);
        self.write(vec![Change::CreateNode(node)]);
    }

    /// Nodes `n1` to `nN` with 4 processors and 8 GiB each.
    pub fn add_nodes(&mut self, count: u128) {
        for number in 1..=count {
            self.add_node(node(number, &format!("n{number}"), resources(4 * CPU, 8 * GIB)));
        }
    }

    pub fn add_service(&mut self, spec: ServiceSpec) -> ServiceId {
        let id = ServiceId::from_bits(1000 + self.services.len() as u128);
        self.services.insert(spec.name.to_string(), id);
        self.write(vec![Change::CreateService(Box::new(service(id.bits(), spec)))]);
        id
    }

    pub fn update_service(&mut self, id: ServiceId, change: impl FnOnce(&mut ServiceSpec)) {
        let service = self.state.service(id).expect("the service exists");
        let (mut spec, expected) = (service.spec.clone(), service.version);
        change(&mut spec);
        self.write(vec![Change::UpdateService { service: id, expected, spec: Box::new(spec) }]);
    }

    pub fn remove_service(&mut self, id: ServiceId) {
        let expected = self.state.service(id).expect("the service exists").version;
        self.write(vec![Change::RemoveService { service: id, expected }]);
    }

    /// What a plan of now says to raise what is wanted of a task.
    pub fn want(&self, name: &str, desired: DesiredState) -> Change {
        let task = self.task(name);
        let service = self.state.service(task.service).expect("the service exists");
        Change::RaiseDesired { task: task.id, desired, service_version: service.version }
    }

    pub fn set_node_state(&mut self, node: NodeId, state: NodeState) {
        self.write(vec![Change::SetNodeStatus { node, state, message: String::new() }]);
    }

    pub fn update_node(&mut self, node: NodeId, change: impl FnOnce(&mut NodeSpec)) {
        let mut spec = self.state.node(node).expect("the node exists").spec.clone();
        change(&mut spec);
        self.write(vec![Change::UpdateNodeSpec { node, expected: Version::default(), spec }]);
    }

    pub fn set_history(&mut self, limit: i32) {
        let spec = ClusterSpec { task_history_limit: limit, ..ClusterSpec::default() };
        let change = match self.state.cluster() {
            None => Change::CreateCluster(cluster(spec)),
            Some(_) => Change::UpdateCluster { cluster: cluster(spec), expected: Version::default() },
        };
        self.write(vec![change]);
    }
}
