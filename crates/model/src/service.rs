//! Services: desired state.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::constraint::Constraint;
use crate::digest::Digest;
use crate::id::ServiceId;
use crate::mount::Mount;
use crate::name::ServiceName;
use crate::resources::{Limits, Resources};
use crate::restart::RestartPolicy;
use crate::time::Timestamp;
use crate::version::Version;

/// Time between the stop signal and the kill unless a service says otherwise.
pub const DEFAULT_STOP_GRACE: Duration = Duration::from_secs(10);

/// A service, as the managers know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Who it is.
    pub id: ServiceId,
    /// Last write to this object.
    pub version: Version,
    /// The write that last changed what tasks are made of; tasks of an older one are replaced.
    pub spec_version: Version,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// What is wanted.
    pub spec: ServiceSpec,
    /// What was wanted before the last change of the task specification: what a rollback goes back to.
    pub previous_spec: Option<Box<ServiceSpec>>,
    /// Progress of the replacement of tasks; a new leader continues from here.
    pub update: Option<UpdateProgress>,
}

/// What is wanted of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Its name.
    pub name: ServiceName,
    /// Labels of the service object; changing them restarts nothing.
    pub labels: BTreeMap<String, String>,
    /// How many tasks, and where.
    pub mode: ServiceMode,
    /// What each task is.
    pub task: TaskSpec,
    /// How tasks are replaced when `task` changes. The first slice knows one way; its place is here.
    pub update: UpdateConfig,
}

/// How many tasks, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServiceMode {
    /// So many tasks, wherever there is room.
    Replicated {
        /// Tasks wanted.
        replicas: u64,
    },
    /// One task on every node that admits it.
    Global,
}

impl ServiceMode {
    /// The word on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replicated { .. } => "replicated",
            Self::Global => "global",
        }
    }
}

/// How tasks are replaced when their specification changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpdateConfig {
    /// Slots replaced at a time; zero is all.
    pub parallelism: u64,
}

impl Default for UpdateConfig {
    fn default() -> Self {
        Self { parallelism: 1 }
    }
}

/// Where the replacement of tasks stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateProgress {
    /// Its state.
    pub state: UpdateState,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// For the operator.
    pub message: String,
}

/// Where the replacement of tasks stands. Pause and rollback states join these when rollout control does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpdateState {
    /// Some tasks are of an older specification.
    Updating,
    /// All tasks are of the present one.
    Completed,
}

/// What each task is: immutable once a task refers to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskSpec {
    /// What runs.
    pub container: ContainerSpec,
    /// What it sets aside on its node.
    pub reservations: Resources,
    /// What it may use at most.
    pub limits: Limits,
    /// When it is replaced.
    pub restart: RestartPolicy,
    /// Where it may run.
    pub placement: Placement,
    /// How it reaches the network.
    pub network: NetworkMode,
    /// Raised by `service update --force`, so that every task is replaced.
    pub force_update: u64,
}

/// Where tasks may run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placement {
    /// All must hold.
    pub constraints: Vec<Constraint>,
    /// Tasks of the service on one node at most; zero is no limit.
    pub max_replicas_per_node: u64,
}

/// How a container reaches the network. Overlay networks join these later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum NetworkMode {
    /// A namespace of its own with a loopback device only.
    #[default]
    None,
    /// The node's own network.
    Host,
}

impl NetworkMode {
    /// The word on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Host => "host",
        }
    }
}

/// An image as the operator named it, and what it resolved to when the service was written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PinnedImage {
    /// The operator's words.
    pub reference: String,
    /// The manifest that every node runs.
    pub digest: Digest,
}

/// What runs in a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSpec {
    /// The image.
    pub image: PinnedImage,
    /// Arguments; empty leaves the image's own.
    pub args: Vec<String>,
    /// Environment as `KEY=VALUE`, on top of the image's.
    pub env: Vec<String>,
    /// Working directory; empty leaves the image's own.
    pub workdir: String,
    /// `name|uid[:group|gid]`; empty leaves the image's own.
    pub user: String,
    /// Host name inside; empty is the task's id.
    pub hostname: String,
    /// Labels of the container; changing them replaces tasks.
    pub labels: BTreeMap<String, String>,
    /// Mounts.
    pub mounts: Vec<Mount>,
    /// The root file system refuses writes.
    pub read_only: bool,
    /// Time between the stop signal and the kill.
    pub stop_grace: Duration,
    /// Name or number of the stop signal; empty is the image's, then SIGTERM.
    pub stop_signal: String,
}

impl TaskSpec {
    /// Whether a task made of `self` also satisfies `next`, so that it need not be replaced.
    ///
    /// A change of placement alone replaces nothing: tasks on nodes that still fit stay, the others are
    /// moved by the constraint enforcer. Labels, mode and replica counts are not part of this type.
    #[must_use]
    pub fn also_satisfies(&self, next: &Self) -> bool {
        self.container == next.container
            && self.reservations == next.reservations
            && self.limits == next.limits
            && self.restart == next.restart
            && self.network == next.network
            && self.force_update == next.force_update
    }
}
