//! Specifications of services: everything that an operator can say.

use std::collections::BTreeMap;

use coracle_model::job::DEFAULT_HISTORY;
use coracle_model::rebalance::RebalanceConfig;
use coracle_model::resources::DEFAULT_PIDS;
use coracle_model::restart::DEFAULT_DELAY;
use coracle_model::rollout::{DEFAULT_MONITOR, DEFAULT_TIMEOUT, Ratio, UpdateConfig as Model};
use coracle_proto::convert::nanos;
use coracle_proto::v1;
use coracle_proto::v1::service_spec::Mode;
use serde::Serialize;

use super::container::Container;
use crate::opt::port;
use crate::output::words;

/// What is wanted of a service.
#[derive(Debug, Serialize)]
pub(crate) struct Spec {
    name: String,
    labels: BTreeMap<String, String>,
    mode: &'static str,
    replicas: Option<u64>,
    max_concurrent: Option<u64>,
    task: TaskSpec,
    /// None for jobs.
    update: Option<UpdateConfig>,
    rollback: Option<UpdateConfig>,
    job: Option<Job>,
    /// None where it has no meaning.
    rebalance: Option<Rebalance>,
    node_down_delay_ns: Option<u64>,
}

#[derive(Debug, Serialize)]
struct UpdateConfig {
    parallelism: u64,
    delay_ns: u64,
    monitor_ns: u64,
    failure_action: &'static str,
    max_failure_ratio: f64,
    order: &'static str,
    timeout_ns: u64,
}

#[derive(Debug, Serialize)]
struct Rebalance {
    policy: &'static str,
    max_skew: u64,
    delay_ns: u64,
    order: &'static str,
}

#[derive(Debug, Serialize)]
struct Job {
    schedule: Option<Schedule>,
    time_limit_ns: u64,
    time_to_live_ns: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Schedule {
    cron: String,
    timezone: String,
    concurrency: &'static str,
    history: u32,
}

/// What a task runs, and where it may.
#[derive(Debug, Serialize)]
pub(crate) struct TaskSpec {
    container: Container,
    limits: Limits,
    reservations: Reservations,
    restart: Restart,
    placement: Placement,
    network: &'static str,
    force_update: u64,
}

#[derive(Debug, Serialize)]
struct Limits {
    nano_cpus: u64,
    memory_bytes: u64,
    pids: u64,
    /// None is as much as the memory, -1 no limit.
    swap_bytes: Option<i64>,
    swappiness: Option<u32>,
    cpuset: String,
}

#[derive(Debug, Serialize)]
struct Reservations {
    nano_cpus: u64,
    memory_bytes: u64,
    generic: BTreeMap<String, u64>,
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
    preferences: Vec<String>,
    max_replicas_per_node: u64,
    strategy: &'static str,
    anti_affinity: Vec<String>,
    host_ports: Vec<String>,
}

impl From<v1::ServiceSpec> for Spec {
    fn from(spec: v1::ServiceSpec) -> Self {
        let (replicas, max_concurrent) = match &spec.mode {
            Some(Mode::Replicated(replicated)) => (Some(replicated.replicas), None),
            Some(Mode::ReplicatedJob(job)) => {
                // Nothing said is as many as there are, and Swarm shows that.
                let concurrent = if job.concurrent == 0 { job.completions } else { job.concurrent };
                (Some(job.completions), Some(concurrent))
            }
            _ => (None, None),
        };
        let is_job = matches!(spec.mode, Some(Mode::ReplicatedJob(_) | Mode::GlobalJob(_)));
        let rollout = |config: Option<v1::UpdateConfig>| {
            (!is_job).then(|| config.unwrap_or_else(|| (&Model::default()).into()).into())
        };
        Self {
            name: spec.name,
            labels: spec.labels.into_iter().collect(),
            mode: words::mode(spec.mode.as_ref()),
            replicas,
            max_concurrent,
            task: spec.task.unwrap_or_default().into(),
            update: rollout(spec.update),
            rollback: rollout(spec.rollback),
            job: is_job.then(|| spec.job.unwrap_or_default().into()),
            rebalance: matches!(spec.mode, Some(Mode::Replicated(_)))
                .then(|| spec.rebalance.unwrap_or_else(|| (&RebalanceConfig::default()).into()).into()),
            node_down_delay_ns: spec.node_down_delay,
        }
    }
}

impl From<v1::UpdateConfig> for UpdateConfig {
    fn from(config: v1::UpdateConfig) -> Self {
        Self {
            parallelism: config.parallelism,
            delay_ns: config.delay,
            monitor_ns: config.monitor.unwrap_or_else(|| nanos(DEFAULT_MONITOR)),
            failure_action: words::failure_action(config.failure_action),
            max_failure_ratio: f64::from(config.max_failure_ratio) / f64::from(Ratio::ONE.millionths()),
            order: words::update_order(config.order),
            timeout_ns: config.timeout.unwrap_or_else(|| nanos(DEFAULT_TIMEOUT)),
        }
    }
}

impl From<v1::RebalanceConfig> for Rebalance {
    fn from(config: v1::RebalanceConfig) -> Self {
        Self {
            policy: if config.auto { "auto" } else { "off" },
            max_skew: config.max_skew,
            delay_ns: config.delay,
            order: words::update_order(config.order),
        }
    }
}

impl From<v1::JobConfig> for Job {
    fn from(job: v1::JobConfig) -> Self {
        Self {
            schedule: job.schedule.map(|schedule| Schedule {
                cron: schedule.cron,
                timezone: schedule.timezone,
                concurrency: words::concurrency(schedule.concurrency),
                history: schedule.history.unwrap_or(DEFAULT_HISTORY),
            }),
            time_limit_ns: job.time_limit,
            time_to_live_ns: job.time_to_live,
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
                pids: limits.pids.unwrap_or(DEFAULT_PIDS),
                swap_bytes: limits.swap_bytes,
                swappiness: limits.swappiness,
                cpuset: limits.cpuset,
            },
            reservations: Reservations {
                nano_cpus: reservations.nano_cpus,
                memory_bytes: reservations.memory_bytes,
                generic: task.generic.into_iter().collect(),
            },
            restart: Restart {
                condition: words::restart_condition(restart.condition),
                delay_ns: restart.delay.unwrap_or_else(|| nanos(DEFAULT_DELAY)),
                max_attempts: restart.max_attempts,
                window_ns: restart.window,
            },
            placement: Placement {
                constraints: placement.constraints,
                preferences: placement.preferences,
                max_replicas_per_node: placement.max_replicas_per_node,
                strategy: words::strategy(placement.strategy),
                anti_affinity: placement.away_from,
                host_ports: placement.host_ports.iter().map(port::render).collect(),
            },
            network: words::network(task.network),
            force_update: task.force_update,
        }
    }
}
