//! Flags that `service create` and `service update` share: single values, which both set in the same way.

use std::time::Duration;

use coracle_model::restart::RestartCondition;
use coracle_proto::convert::nanos;
use coracle_proto::v1;

use super::merge::resources::{self, ResourceChanges};
use crate::opt::{bytes, count, cpus, duration, mode};

/// Flags of the task's parts that have one value each.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct TaskFlags {
    /// User inside the container: name|uid[:group|gid]
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "PATH")]
    workdir: Option<String>,
    /// Host name inside the container
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// Mount the container's root read only
    #[arg(long, value_name = "BOOLEAN", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    read_only: Option<bool>,
    /// Time between the stop signal and the kill (default 10s)
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = duration::parser("stop-grace-period"))]
    stop_grace_period: Option<Duration>,
    /// Signal that stops the container (default the image's, then SIGTERM)
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// none (a loopback device only) or host (the node's network)
    #[arg(long, value_name = "NETWORK", value_parser = mode::network)]
    network: Option<v1::NetworkMode>,
    #[command(flatten)]
    resources: ResourceFlags,
    #[command(flatten)]
    restart: RestartFlags,
    /// Tasks of the service on one node at most; 0 is no limit
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, value_parser = count::parser("replicas-max-per-node"))]
    replicas_max_per_node: Option<u64>,
}

#[derive(Debug, Clone, Default, clap::Args)]
struct ResourceFlags {
    /// Processors that a task may use at most, such as 0.5; 0 is no limit
    #[arg(long, value_name = "CPUS", allow_hyphen_values = true, value_parser = cpus::parser("limit-cpu"))]
    limit_cpu: Option<u64>,
    /// Memory that a task may use at most, such as 64m; 0 is no limit
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, value_parser = bytes::parser("limit-memory"))]
    limit_memory: Option<u64>,
    /// Processes and threads of a task at most; 0 is no limit
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, value_parser = count::parser("limit-pids"))]
    limit_pids: Option<u64>,
    /// Processors that are set aside for a task
    #[arg(long, value_name = "CPUS", allow_hyphen_values = true, value_parser = cpus::parser("reserve-cpu"))]
    reserve_cpu: Option<u64>,
    /// Memory that is set aside for a task
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, value_parser = bytes::parser("reserve-memory"))]
    reserve_memory: Option<u64>,
}

#[derive(Debug, Clone, Default, clap::Args)]
struct RestartFlags {
    /// Which ends lead to a replacement: none, on-failure or any (default any)
    #[arg(long, value_name = "CONDITION")]
    restart_condition: Option<RestartCondition>,
    /// Wait before a replacement starts (default 5s)
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = duration::parser("restart-delay"))]
    restart_delay: Option<Duration>,
    /// Replacements at most; 0 is no limit
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, value_parser = count::parser("restart-max-attempts"))]
    restart_max_attempts: Option<u64>,
    /// How far back replacements are counted; 0 is since the last change
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = duration::parser("restart-window"))]
    restart_window: Option<Duration>,
}

/// How long the command waits for the service.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct WaitFlags {
    /// Return at once instead of waiting until the service has converged
    #[arg(short, long)]
    pub detach: bool,
    /// Show no progress
    #[arg(short, long)]
    pub quiet: bool,
    /// Fail when the service has not converged after this time; it goes on converging
    #[arg(long, value_name = "DURATION", conflicts_with = "detach", value_parser = duration::parser("timeout"))]
    pub timeout: Option<Duration>,
}

impl TaskFlags {
    /// Sets in the specification what was given, and leaves the rest.
    pub(crate) fn apply(&self, task: &mut v1::TaskSpec) {
        let container = task.container.get_or_insert_default();
        set(&mut container.user, &self.user);
        set(&mut container.workdir, &self.workdir);
        set(&mut container.hostname, &self.hostname);
        set(&mut container.stop_signal, &self.stop_signal);
        set(&mut container.read_only, &self.read_only);
        if let Some(grace) = self.stop_grace_period {
            container.stop_grace = Some(nanos(grace));
        }
        set(&mut task.network, &self.network.map(Into::into));
        set(&mut task.placement.get_or_insert_default().max_replicas_per_node, &self.replicas_max_per_node);
        self.restart.apply(task.restart.get_or_insert_default());
        let (limits, reservations) = resources::merge(
            task.limits.take().unwrap_or_default(),
            task.reservations.unwrap_or_default(),
            &self.resources.changes(),
        );
        task.limits = Some(limits);
        task.reservations = Some(reservations);
    }
}

impl RestartFlags {
    fn apply(&self, policy: &mut v1::RestartPolicy) {
        set(&mut policy.condition, &self.restart_condition.map(|c| v1::RestartCondition::from(c).into()));
        set(&mut policy.max_attempts, &self.restart_max_attempts);
        set(&mut policy.window, &self.restart_window.map(nanos));
        if let Some(delay) = self.restart_delay {
            policy.delay = Some(nanos(delay));
        }
    }
}

impl ResourceFlags {
    const fn changes(&self) -> ResourceChanges {
        ResourceChanges {
            limit_cpu: self.limit_cpu,
            limit_memory: self.limit_memory,
            limit_pids: self.limit_pids,
            reserve_cpu: self.reserve_cpu,
            reserve_memory: self.reserve_memory,
        }
    }
}

fn set<T: Clone>(place: &mut T, given: &Option<T>) {
    if let Some(value) = given {
        place.clone_from(value);
    }
}
