//! Health checks.

use std::time::Duration;

use coracle_proto::convert::nanos;
use coracle_proto::v1;
use coracle_proto::v1::health_config::Test;

use crate::opt::{FlagError, count, duration};

/// Flags of the health check. A duration of zero is the image's, then the default.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct HealthFlags {
    /// Command that the container's shell runs to check its health; empty is the image's
    #[arg(long, value_name = "COMMAND", allow_hyphen_values = true)]
    health_cmd: Option<String>,
    /// Time between two checks (default the image's, then 30s)
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = duration::parser("health-interval"))]
    health_interval: Option<Duration>,
    /// How long one check may take (default the image's, then 30s)
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = duration::parser("health-timeout"))]
    health_timeout: Option<Duration>,
    /// Failures in a row that make a container unhealthy (default the image's, then 3)
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, value_parser = retries)]
    health_retries: Option<u32>,
    /// Time after the start in which failures do not count (default the image's, then 0s)
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = duration::parser("health-start-period"))]
    health_start_period: Option<Duration>,
    /// Time between two checks in the start period (default the image's, then 5s)
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = duration::parser("health-start-interval"))]
    health_start_interval: Option<Duration>,
    /// Check nothing, whatever the image says
    #[arg(long, conflicts_with_all = ["health_cmd", "health_interval", "health_timeout", "health_retries", "health_start_period", "health_start_interval"])]
    no_healthcheck: bool,
}

fn retries(text: &str) -> Result<u32, FlagError> {
    let number = count::parse("health-retries", text, u32::MAX.into())?;
    Ok(u32::try_from(number).unwrap_or(u32::MAX))
}

impl HealthFlags {
    /// Sets in the container what was given, and leaves the rest.
    pub(crate) fn apply(&self, container: &mut v1::ContainerSpec) {
        if self.no_healthcheck {
            container.health =
                Some(v1::HealthConfig { test: Some(Test::Disabled(true)), ..Default::default() });
            return;
        }
        if !self.is_given() {
            return;
        }
        let health = container.health.get_or_insert_default();
        // Whoever says how to check wants to check.
        health.test = match (&self.health_cmd, health.test.take()) {
            (Some(command), _) if command.is_empty() => None,
            (Some(command), _) => Some(Test::Shell(command.clone())),
            (None, Some(Test::Disabled(_))) => None,
            (None, test) => test,
        };
        set(&mut health.interval, self.health_interval);
        set(&mut health.timeout, self.health_timeout);
        set(&mut health.start_period, self.health_start_period);
        set(&mut health.start_interval, self.health_start_interval);
        if let Some(retries) = self.health_retries {
            health.retries = (retries > 0).then_some(retries);
        }
    }

    fn is_given(&self) -> bool {
        let durations =
            [self.health_interval, self.health_timeout, self.health_start_period, self.health_start_interval];
        self.health_cmd.is_some() || self.health_retries.is_some() || durations.iter().any(Option::is_some)
    }
}

fn set(place: &mut Option<u64>, given: Option<Duration>) {
    if let Some(given) = given {
        *place = Some(nanos(given)).filter(|nanos| *nanos > 0);
    }
}
