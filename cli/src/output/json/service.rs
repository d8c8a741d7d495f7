//! Services.

use std::collections::BTreeMap;

use coracle_model::restart::DEFAULT_DELAY;
use coracle_model::service::DEFAULT_STOP_GRACE;
use coracle_proto::convert::nanos;
use coracle_proto::v1;
use serde::Serialize;

use crate::output::{time, words};

/// `service inspect`.
#[derive(Debug, Serialize)]
pub(crate) struct Service {
    id: String,
    version: u64,
    spec_version: u64,
    created_at: Option<String>,
    updated_at: Option<String>,
    spec: Spec,
    previous_spec: Option<Spec>,
    update: Option<Update>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tasks: Option<Counts>,
}

/// One line of `service ls`.
#[derive(Debug, Serialize)]
pub(crate) struct ServiceRow {
    id: String,
    name: String,
    mode: &'static str,
    replicas: Counts,
    image: String,
    labels: BTreeMap<String, String>,
}

/// Tasks that run, and tasks that are wanted.
#[derive(Debug, Serialize)]
pub(crate) struct Counts {
    running: u64,
    desired: u64,
}

#[derive(Debug, Serialize)]
struct Spec {
    name: String,
    labels: BTreeMap<String, String>,
    mode: &'static str,
    replicas: Option<u64>,
    task: TaskSpec,
    update: UpdateConfig,
}

#[derive(Debug, Serialize)]
struct UpdateConfig {
    parallelism: u64,
}

#[derive(Debug, Serialize)]
struct TaskSpec {
    container: Container,
    limits: Limits,
    reservations: Reservations,
    restart: Restart,
    placement: Placement,
    network: &'static str,
    force_update: u64,
}

#[derive(Debug, Serialize)]
struct Container {
    image: String,
    digest: String,
    args: Vec<String>,
    env: Vec<String>,
    workdir: String,
    user: String,
    hostname: String,
    labels: BTreeMap<String, String>,
    mounts: Vec<Mount>,
    read_only: bool,
    stop_grace_ns: u64,
    stop_signal: String,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Mount {
    Bind { source: String, target: String, read_only: bool },
    Tmpfs { target: String, read_only: bool, size_bytes: u64, mode: String },
    Unknown { target: String, read_only: bool },
}

#[derive(Debug, Serialize)]
struct Limits {
    nano_cpus: u64,
    memory_bytes: u64,
    pids: u64,
}

#[derive(Debug, Serialize)]
struct Reservations {
    nano_cpus: u64,
    memory_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Restart {
    condition: &'static str,
    delay_ns: u64,
    max_attempts: u64,
    window_ns: u64,
}

#[derive(Debug, Serialize)]
struct Placement {
    constraints: Vec<String>,
    max_replicas_per_node: u64,
}

#[derive(Debug, Serialize)]
struct Update {
    state: &'static str,
    started_at: Option<String>,
    completed_at: Option<String>,
    message: String,
}

impl From<v1::ServiceCounts> for Counts {
    fn from(counts: v1::ServiceCounts) -> Self {
        Self { running: counts.running, desired: counts.desired }
    }
}

impl Service {
    /// The service, with its tasks counted where that is known.
    pub(crate) fn new(service: v1::Service, counts: Option<v1::ServiceCounts>) -> Self {
        Self {
            id: service.id,
            version: service.version,
            spec_version: service.spec_version,
            created_at: time::rfc3339(service.created_at),
            updated_at: time::rfc3339(service.updated_at),
            spec: service.spec.unwrap_or_default().into(),
            previous_spec: service.previous_spec.map(Into::into),
            update: service.update.map(|update| Update {
                state: words::update_state(update.state),
                started_at: time::rfc3339(update.started_at),
                completed_at: update.completed_at.and_then(time::rfc3339),
                message: update.message,
            }),
            tasks: counts.map(Into::into),
        }
    }
}

impl ServiceRow {
    /// The line for a service.
    pub(crate) fn new(service: &v1::Service, counts: v1::ServiceCounts) -> Self {
        let spec = service.spec.clone().unwrap_or_default();
        let container = spec.task.and_then(|task| task.container).unwrap_or_default();
        Self {
            id: service.id.clone(),
            name: spec.name,
            mode: words::mode(spec.mode.as_ref()),
            replicas: counts.into(),
            image: container.image.unwrap_or_default().reference,
            labels: spec.labels.into_iter().collect(),
        }
    }
}

impl From<v1::ServiceSpec> for Spec {
    fn from(spec: v1::ServiceSpec) -> Self {
        let replicas = match &spec.mode {
            Some(v1::service_spec::Mode::Replicated(replicated)) => Some(replicated.replicas),
            _ => None,
        };
        Self {
            name: spec.name,
            labels: spec.labels.into_iter().collect(),
            mode: words::mode(spec.mode.as_ref()),
            replicas,
            task: spec.task.unwrap_or_default().into(),
            update: UpdateConfig { parallelism: spec.update.map_or(1, |update| update.parallelism) },
        }
    }
}

impl From<v1::TaskSpec> for TaskSpec {
    fn from(task: v1::TaskSpec) -> Self {
        let limits = task.limits.unwrap_or_default();
        let reservations = task.reservations.unwrap_or_default();
        let restart = task.restart.unwrap_or_default();
        let placement = task.placement.unwrap_or_default();
        Self {
            container: task.container.unwrap_or_default().into(),
            limits: Limits {
                nano_cpus: limits.nano_cpus,
                memory_bytes: limits.memory_bytes,
                pids: limits.pids,
            },
            reservations: Reservations {
                nano_cpus: reservations.nano_cpus,
                memory_bytes: reservations.memory_bytes,
            },
            restart: Restart {
                condition: words::restart_condition(restart.condition),
                delay_ns: restart.delay.unwrap_or_else(|| nanos(DEFAULT_DELAY)),
                max_attempts: restart.max_attempts,
                window_ns: restart.window,
            },
            placement: Placement {
                constraints: placement.constraints,
                max_replicas_per_node: placement.max_replicas_per_node,
            },
            network: words::network(task.network),
            force_update: task.force_update,
        }
    }
}

impl From<v1::ContainerSpec> for Container {
    fn from(container: v1::ContainerSpec) -> Self {
        let image = container.image.unwrap_or_default();
        Self {
            image: image.reference,
            digest: image.digest,
            args: container.args,
            env: container.env,
            workdir: container.workdir,
            user: container.user,
            hostname: container.hostname,
            labels: container.labels.into_iter().collect(),
            mounts: container.mounts.into_iter().map(Into::into).collect(),
            read_only: container.read_only,
            stop_grace_ns: container.stop_grace.unwrap_or_else(|| nanos(DEFAULT_STOP_GRACE)),
            stop_signal: container.stop_signal,
        }
    }
}

impl From<v1::Mount> for Mount {
    fn from(mount: v1::Mount) -> Self {
        let (target, read_only) = (mount.target, mount.read_only);
        match mount.kind {
            Some(v1::mount::Kind::Bind(bind)) => Self::Bind { source: bind.source, target, read_only },
            Some(v1::mount::Kind::Tmpfs(tmpfs)) => {
                Self::Tmpfs { target, read_only, size_bytes: tmpfs.size, mode: format!("{:04o}", tmpfs.mode) }
            }
            Some(v1::mount::Kind::Volume(_) | v1::mount::Kind::Image(_)) | None => {
                Self::Unknown { target, read_only }
            }
        }
    }
}
