//! Flags that `service create` and `service update` share: single values, which both set in the same way.

mod health;
mod job;
mod placement;
mod refused;
mod resources;
mod rollout;
mod security;

use std::time::Duration;

use coracle_model::restart::RestartCondition;
use coracle_proto::convert::nanos;
use coracle_proto::v1;

use self::health::HealthFlags;
use self::job::JobFlags;
use self::placement::PlacementFlags;
use self::refused::RefusedFlags;
use self::resources::ResourceFlags;
use self::rollout::RolloutFlags;
use self::security::SecurityFlags;
use crate::opt::label::{self, Label};
use crate::opt::{FlagError, count, duration, mode, words};

/// All flags that have one value each.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct SpecFlags {
    #[command(flatten)]
    container: ContainerFlags,
    #[command(flatten)]
    resources: ResourceFlags,
    #[command(flatten)]
    restart: RestartFlags,
    #[command(flatten)]
    placement: PlacementFlags,
    #[command(flatten)]
    rollout: RolloutFlags,
    #[command(flatten)]
    health: HealthFlags,
    #[command(flatten)]
    security: SecurityFlags,
    #[command(flatten)]
    job: JobFlags,
    #[command(flatten)]
    refused: RefusedFlags,
}

#[derive(Debug, Clone, Default, clap::Args)]
struct ContainerFlags {
    /// User inside the container: name|uid[:group|gid]
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "PATH")]
    workdir: Option<String>,
    /// Host name inside the container
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// Program and first arguments instead of the image's entry point, as one text, split as a shell does
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    entrypoint: Option<String>,
    /// Run a small first process that reaps orphans and passes signals on
    #[arg(long, value_name = "BOOLEAN", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    init: Option<bool>,
    /// Give the container a terminal
    #[arg(short, long, value_name = "BOOLEAN", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    tty: Option<bool>,
    /// Mount the container's root read only
    #[arg(long, value_name = "BOOLEAN", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    read_only: Option<bool>,
    /// Time between the stop signal and the kill (default 10s)
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = duration::parser("stop-grace-period"))]
    stop_grace_period: Option<Duration>,
    /// Signal that stops the container (default the image's, then SIGTERM)
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Wait between leaving the routing and the stop signal (default 0s)
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = duration::parser("pre-stop-delay"))]
    pre_stop_delay: Option<Duration>,
    /// none (a loopback device only) or host (the node's network)
    #[arg(long, value_name = "NETWORK", value_parser = mode::network)]
    network: Option<v1::NetworkMode>,
    /// How output is kept: local or none (default local)
    #[arg(long, value_name = "DRIVER")]
    log_driver: Option<String>,
    /// Option of the log driver: max-size=BYTES or max-file=NUMBER (may be repeated)
    #[arg(long, value_name = "KEY=VALUE", value_parser = label::parser("log-opt"))]
    log_opt: Vec<Label>,
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
#[derive(Debug, Clone, Default, clap::Args)]
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

impl SpecFlags {
    /// Sets in the specification, whose mode is decided, what was given, and leaves the rest.
    ///
    /// # Errors
    /// When a value does not fit.
    pub(crate) fn apply(&self, spec: &mut v1::ServiceSpec) -> Result<(), FlagError> {
        self.refused.check()?;
        self.rollout.apply(spec);
        self.job.apply(spec)?;
        self.placement.apply(spec);
        let task = spec.task.get_or_insert_default();
        self.container.apply(task)?;
        self.restart.apply(task.restart.get_or_insert_default());
        self.resources.apply(task);
        let container = task.container.get_or_insert_default();
        self.health.apply(container);
        self.security.apply(container)
    }
}

impl ContainerFlags {
    fn apply(&self, task: &mut v1::TaskSpec) -> Result<(), FlagError> {
        set(&mut task.network, &self.network.map(Into::into));
        let container = task.container.get_or_insert_default();
        set(&mut container.user, &self.user);
        set(&mut container.workdir, &self.workdir);
        set(&mut container.hostname, &self.hostname);
        set(&mut container.stop_signal, &self.stop_signal);
        set(&mut container.read_only, &self.read_only);
        set(&mut container.init, &self.init);
        set(&mut container.tty, &self.tty);
        set(&mut container.pre_stop_delay, &self.pre_stop_delay.map(nanos));
        container.stop_grace = self.stop_grace_period.map(nanos).or(container.stop_grace);
        if let Some(text) = &self.entrypoint {
            container.entrypoint = words::split("entrypoint", text)?;
        }
        self.apply_log(container);
        Ok(())
    }

    /// Another driver has other options: those of before go with it.
    fn apply_log(&self, container: &mut v1::ContainerSpec) {
        if self.log_driver.is_none() && self.log_opt.is_empty() {
            return;
        }
        let log = container.log.get_or_insert_default();
        set(&mut log.driver, &self.log_driver);
        log.options = self.log_opt.iter().map(|option| (option.key.clone(), option.value.clone())).collect();
    }
}

impl RestartFlags {
    fn apply(&self, policy: &mut v1::RestartPolicy) {
        set(&mut policy.condition, &self.restart_condition.map(|c| v1::RestartCondition::from(c).into()));
        set(&mut policy.max_attempts, &self.restart_max_attempts);
        set(&mut policy.window, &self.restart_window.map(nanos));
        policy.delay = self.restart_delay.map(nanos).or(policy.delay);
    }
}

fn set<T: Clone>(place: &mut T, given: &Option<T>) {
    if let Some(value) = given {
        place.clone_from(value);
    }
}
