//! The closed list of writes. Everything that the managers agree on came about through one of these.
//!
//! A change brings what it presupposes: the version of the object that its author read. Version zero is not
//! checked. Identifiers, nodes and times are in the change or its proposal, so that nothing is left to
//! choose when it is applied.

use std::collections::BTreeMap;

use coracle_model::cluster::{Cluster, Secret};
use coracle_model::id::{FileId, IdempotencyKey, NodeId, ServiceId, TaskId};
use coracle_model::image::ImageEntry;
use coracle_model::job::JobStatus;
use coracle_model::node::{ManagerMember, Node, NodeDescription, NodeSpec, NodeState};
use coracle_model::rebalance::RebalanceProgress;
use coracle_model::secret::File;
use coracle_model::service::{Service, ServiceSpec, UpdateProgress};
use coracle_model::task::{DesiredState, Task, TaskStatus};
use coracle_model::time::Timestamp;
use coracle_model::version::Version;

/// Changes that are applied together or not at all, with who asked for them and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// In the order in which they are applied.
    pub changes: Vec<Change>,
    /// Who asked: a node, an operator or a control loop.
    pub actor: String,
    /// Why, for the record of events.
    pub reason: String,
    /// The proposer's clock.
    pub time: Timestamp,
    /// The mark of a write that its author may repeat.
    pub idempotency: Option<IdempotencyKey>,
    /// The term in which the proposer led; an entry of another term is refused. Zero is not checked.
    pub term: u64,
}

/// One write to one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Makes the one cluster object.
    CreateCluster(Cluster),
    /// Replaces the cluster object.
    UpdateCluster {
        /// The whole object.
        cluster: Cluster,
        /// The version that was read.
        expected: Version,
    },
    /// Adds a node that joined.
    CreateNode(Node),
    /// Replaces what operators ask of a node.
    UpdateNodeSpec {
        /// Which node.
        node: NodeId,
        /// The version that was read.
        expected: Version,
        /// The whole specification.
        spec: NodeSpec,
    },
    /// Notes what a node says of itself.
    DescribeNode {
        /// Which node.
        node: NodeId,
        /// Its words.
        description: NodeDescription,
        /// `IP:PORT` of its listener.
        address: String,
    },
    /// Notes whether a node can be used. A node that is down becomes ready only when nothing that was given up may
    /// run on it any more; until then this is without effect.
    SetNodeStatus {
        /// Which node.
        node: NodeId,
        /// Its state.
        state: NodeState,
        /// Why, for the operator.
        message: String,
    },
    /// Notes a node's place in Raft.
    SetManagerMember {
        /// Which node.
        node: NodeId,
        /// Its place; none when it leaves Raft.
        member: Option<ManagerMember>,
    },
    /// Removes a node; its tasks are orphaned.
    RemoveNode {
        /// Which node.
        node: NodeId,
        /// The version that was read.
        expected: Version,
    },
    /// Adds a service. In a box as other large and rare ones, so that the frequent ones are small.
    CreateService(Box<Service>),
    /// Replaces what is wanted of a service.
    UpdateService {
        /// Which service.
        service: ServiceId,
        /// The version that was read.
        expected: Version,
        /// The whole specification.
        spec: Box<ServiceSpec>,
    },
    /// Puts the specification before the last change in force again.
    RollBackService {
        /// Which service.
        service: ServiceId,
        /// The version that was read.
        expected: Version,
        /// Why, for the operator.
        message: String,
        /// By the managers because an update failed: what failed is then not kept to go back to.
        automatic: bool,
    },
    /// Notes where a job stands.
    SetJobStatus {
        /// Which service.
        service: ServiceId,
        /// The version that was read.
        expected: Version,
        /// Where it stands.
        job: JobStatus,
    },
    /// Notes where the replacement of a service's tasks stands.
    SetUpdateProgress {
        /// Which service.
        service: ServiceId,
        /// The version that was read.
        expected: Version,
        /// Where it stands.
        progress: UpdateProgress,
    },
    /// Notes where moving a service's tasks to better nodes stands. Comes before the changes that carry out a move.
    SetRebalance {
        /// Which service.
        service: ServiceId,
        /// The version that was read.
        expected: Version,
        /// Where it stands.
        progress: RebalanceProgress,
    },
    /// Removes a service; its tasks stay until they have stopped.
    RemoveService {
        /// Which service.
        service: ServiceId,
        /// The version that was read.
        expected: Version,
    },
    /// Adds a task to an empty slot.
    CreateTask {
        /// The whole task, without a node.
        task: Task,
        /// The version of the service at which this was planned.
        service_version: Version,
        /// The task that holds the slot and stays until this one runs (start-first); none where the slot must be empty.
        beside: Option<TaskId>,
    },
    /// Gives a task its node.
    AssignTask {
        /// Which task.
        task: TaskId,
        /// The version of the task that was read.
        expected: Version,
        /// The node.
        node: NodeId,
        /// The version of the node that was read.
        node_version: Version,
        /// Which of the node's other things it gets, by kind.
        generic: BTreeMap<String, Vec<String>>,
    },
    /// Raises what is wanted of a task; lowering it is without effect. Refused when it is to run and another task of
    /// its slot may still run on a node within reach.
    RaiseDesired {
        /// Which task.
        task: TaskId,
        /// What is wanted now.
        desired: DesiredState,
        /// The version of the service at which this was planned: what is not wanted of one specification may be of the next.
        service_version: Version,
    },
    /// Takes over how a task fares. Never refused: a stale or foreign report is without effect.
    ReportTask {
        /// Which task.
        task: TaskId,
        /// Who reports; none are the managers.
        node: Option<NodeId>,
        /// How it fares.
        status: TaskStatus,
    },
    /// Deletes the record of a task that runs nowhere.
    RemoveTask {
        /// Which task.
        task: TaskId,
    },
    /// Sets what an image name resolves to.
    PutImage(ImageEntry),
    /// Removes an image name.
    RemoveImage {
        /// The full name.
        name: String,
    },
    /// Adds a secret or a config with its first version.
    CreateFile(File),
    /// Changes the labels of a secret or a config, or adds a version. What equals the latest version adds none.
    UpdateFile {
        /// Which.
        file: FileId,
        /// The version of the object that was read.
        expected: Version,
        /// All labels; none leaves them.
        labels: Option<BTreeMap<String, String>>,
        /// What the new version contains; none adds no version.
        data: Option<Secret>,
    },
    /// Removes a secret or a config that no service uses.
    RemoveFile {
        /// Which.
        file: FileId,
        /// The version of the object that was read.
        expected: Version,
    },
    /// Drops one version of a secret or a config. Without effect where something refers to it.
    CollectFile {
        /// Which.
        file: FileId,
        /// Which version of its content.
        content: u64,
    },
    /// Gives a service the newer version of a secret or a config that it follows. Without effect where it does not, or has it.
    FollowFile {
        /// Which service.
        service: ServiceId,
        /// Which secret or config.
        file: FileId,
        /// Which version of its content.
        content: u64,
    },
}

impl Change {
    /// Whether this must be in the same proposal as the change in front of it.
    ///
    /// A replacement is made in the write that gives up its predecessor, and a task that is moved has its node in the write
    /// that makes it; planners put them side by side.
    #[must_use]
    pub fn belongs_to(&self, previous: &Self) -> bool {
        match (previous, self) {
            (Self::RaiseDesired { .. } | Self::SetRebalance { .. }, Self::CreateTask { .. })
            | (Self::SetRebalance { .. }, Self::RaiseDesired { .. }) => true,
            (Self::CreateTask { task: made, .. }, Self::AssignTask { task, .. }) => made.id == *task,
            _ => false,
        }
    }
}
