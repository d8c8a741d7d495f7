//! Services: desired state.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::digest::Digest;
use crate::health::HealthConfig;
use crate::id::ServiceId;
use crate::job::{JobConfig, JobStatus};
use crate::mount::{Mount, MountKind};
use crate::name::ServiceName;
use crate::rebalance::{RebalanceConfig, RebalanceProgress};
use crate::resources::{Limits, Resources};
use crate::restart::RestartPolicy;
use crate::secret::FileReference;
use crate::security::{Device, NamespaceMode, Privileges};
use crate::time::Timestamp;
use crate::version::Version;

pub use crate::placement::Placement;
pub use crate::rollout::{UpdateConfig, UpdateProgress, UpdateState};

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
    /// Where a job stands; none for services that are to go on.
    pub job: Option<JobStatus>,
    /// Where moving tasks to better nodes stands, or how it ended the last time.
    pub rebalance: Option<Box<RebalanceProgress>>,
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
    /// How tasks are replaced when `task` changes. Jobs have no use for it.
    pub update: UpdateConfig,
    /// How they are replaced when the former specification is put in force again.
    pub rollback: UpdateConfig,
    /// What a job needs besides its mode.
    pub job: JobConfig,
    /// How tasks that run are moved to better nodes. Only replicated services have a use for it.
    pub rebalance: RebalanceConfig,
    /// How long a node may be down before this service's tasks on it are replaced; none is the cluster's grace alone.
    pub node_down_delay: Option<Duration>,
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
    /// So many tasks that end with success, some at a time.
    ReplicatedJob {
        /// Tasks that have to succeed.
        completions: u64,
        /// Tasks at a time; zero is all.
        concurrent: u64,
    },
    /// One task that ends with success on every node that admits it.
    GlobalJob,
}

impl ServiceMode {
    /// The word on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replicated { .. } => "replicated",
            Self::Global => "global",
            Self::ReplicatedJob { .. } => "replicated-job",
            Self::GlobalJob => "global-job",
        }
    }

    /// Whether its tasks are to end.
    #[must_use]
    pub const fn is_job(self) -> bool {
        matches!(self, Self::ReplicatedJob { .. } | Self::GlobalJob)
    }

    /// Whether its slots are nodes.
    #[must_use]
    pub const fn is_per_node(self) -> bool {
        matches!(self, Self::Global | Self::GlobalJob)
    }
}

/// What each task is: immutable once a task refers to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskSpec {
    /// What runs.
    pub container: ContainerSpec,
    /// What it sets aside on its node.
    pub reservations: Resources,
    /// How many of its node's other things (graphics cards, licences) it sets aside, by kind.
    pub generic: BTreeMap<String, u64>,
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

/// What runs in a task. Templates (`{{.Task.Slot}}`) are possible in `hostname`, values of `env`, and mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSpec {
    /// The image.
    pub image: PinnedImage,
    /// Program and first arguments instead of the image's entry point; empty leaves the image's own.
    pub entrypoint: Vec<String>,
    /// Arguments; empty leaves the image's own.
    pub args: Vec<String>,
    /// Environment as `KEY=VALUE`, on top of the image's.
    pub env: Vec<String>,
    /// Working directory; empty leaves the image's own.
    pub workdir: String,
    /// `name|uid[:group|gid]`; empty leaves the image's own.
    pub user: String,
    /// Supplementary groups, by name or number.
    pub groups: Vec<String>,
    /// Host name inside; empty is the task's id.
    pub hostname: String,
    /// Labels of the container; changing them replaces tasks.
    pub labels: BTreeMap<String, String>,
    /// Mounts.
    pub mounts: Vec<Mount>,
    /// Secrets and configs.
    pub files: Vec<FileReference>,
    /// The root file system refuses writes.
    pub read_only: bool,
    /// Time between the stop signal and the kill.
    pub stop_grace: Duration,
    /// Name or number of the stop signal; empty is the image's, then SIGTERM.
    pub stop_signal: String,
    /// Wait between leaving the routing and the stop signal.
    pub pre_stop_delay: Duration,
    /// A small first process reaps orphans and passes signals on.
    pub init: bool,
    /// Its standard streams are a terminal.
    pub tty: bool,
    /// Health check.
    pub health: HealthConfig,
    /// What it may do beyond an ordinary process, and what confines it.
    pub privileges: Privileges,
    /// Devices of the node.
    pub devices: Vec<Device>,
    /// Limits of its processes (setrlimit(2)), by name without `RLIMIT_`, in small letters.
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Kernel settings of its own namespaces (`net.core.somaxconn`).
    pub sysctls: BTreeMap<String, String>,
    /// Name resolution: servers, options and search domains of its `resolv.conf`.
    pub dns: Dns,
    /// Additional lines of its hosts file as `ADDRESS NAME`, in order.
    pub hosts: Vec<String>,
    /// Size of `/dev/shm` in bytes; zero is 64 MiB.
    pub shm_size: u64,
    /// Whose processes it sees.
    pub pid: NamespaceMode,
    /// Whose shared memory and queues it sees.
    pub ipc: NamespaceMode,
    /// Whose host name it sees.
    pub uts: NamespaceMode,
    /// Adjustment of the kernel's choice when memory runs out, -1000 to 1000 (proc(5)).
    pub oom_score_adj: i32,
    /// How its output is kept.
    pub log: LogConfig,
}

impl ContainerSpec {
    /// The images that a node needs for it: its own first, then those that it mounts.
    pub fn images(&self) -> impl Iterator<Item = &PinnedImage> {
        let mounted = self.mounts.iter().filter_map(|mount| match &mount.kind {
            MountKind::Image { image, .. } => Some(image),
            _ => None,
        });
        std::iter::once(&self.image).chain(mounted)
    }

    /// A container of this image with nothing else said.
    #[must_use]
    pub fn of(image: PinnedImage) -> Self {
        Self {
            image,
            entrypoint: Vec::new(),
            args: Vec::new(),
            env: Vec::new(),
            workdir: String::new(),
            user: String::new(),
            groups: Vec::new(),
            hostname: String::new(),
            labels: BTreeMap::new(),
            mounts: Vec::new(),
            files: Vec::new(),
            read_only: false,
            stop_grace: DEFAULT_STOP_GRACE,
            stop_signal: String::new(),
            pre_stop_delay: Duration::ZERO,
            init: false,
            tty: false,
            health: HealthConfig::default(),
            privileges: Privileges::default(),
            devices: Vec::new(),
            ulimits: BTreeMap::new(),
            sysctls: BTreeMap::new(),
            dns: Dns::default(),
            hosts: Vec::new(),
            shm_size: 0,
            pid: NamespaceMode::Private,
            ipc: NamespaceMode::Private,
            uts: NamespaceMode::Private,
            oom_score_adj: 0,
            log: LogConfig::default(),
        }
    }
}

/// One limit of processes; `u64::MAX` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ulimit {
    /// What is in force.
    pub soft: u64,
    /// What the process may raise it to.
    pub hard: u64,
}

/// Name resolution of a container; what is empty is the node's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dns {
    /// Addresses of servers.
    pub servers: Vec<String>,
    /// Options of `resolv.conf`.
    pub options: Vec<String>,
    /// Search domains.
    pub search: Vec<String>,
}

/// How the output of a container is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogConfig {
    /// `local` (also when empty) keeps it on the node, `none` drops it.
    pub driver: String,
    /// `max-size` and `max-file` of the local driver.
    pub options: BTreeMap<String, String>,
}

impl ServiceSpec {
    /// A service with nothing else said.
    #[must_use]
    pub fn of(name: ServiceName, mode: ServiceMode, task: TaskSpec) -> Self {
        Self {
            name,
            labels: BTreeMap::new(),
            mode,
            task,
            update: UpdateConfig::default(),
            rollback: UpdateConfig::default(),
            job: JobConfig::default(),
            rebalance: RebalanceConfig::default(),
            node_down_delay: None,
        }
    }
}

impl TaskSpec {
    /// A task of this container with nothing else said.
    #[must_use]
    pub fn of(container: ContainerSpec) -> Self {
        Self {
            container,
            reservations: Resources::default(),
            generic: BTreeMap::new(),
            limits: Limits::default(),
            restart: RestartPolicy::default(),
            placement: Placement::default(),
            network: NetworkMode::default(),
            force_update: 0,
        }
    }

    /// Whether a task made of `self` also satisfies `next`, so that it need not be replaced.
    ///
    /// A change of placement alone replaces nothing where the node still fits, which is not asked here; only ports of
    /// the node that are taken differently are a change of the task.
    /// Labels, mode and replica counts are not part of this type.
    #[must_use]
    pub fn also_satisfies(&self, next: &Self) -> bool {
        self.container == next.container
            && self.reservations == next.reservations
            && self.generic == next.generic
            && self.limits == next.limits
            && self.restart == next.restart
            && self.network == next.network
            && self.placement.host_ports == next.placement.host_ports
            && self.force_update == next.force_update
    }
}
