//! Health checks and what they found.

use coracle_model::health::{HealthConfig, HealthResult, HealthTest};
use coracle_model::task::{Health, HealthState};

use super::{DecodeError, duration, enumerator, nanos, timestamp};
use crate::v1;

impl From<&HealthConfig> for v1::HealthConfig {
    fn from(config: &HealthConfig) -> Self {
        let test = match &config.test {
            HealthTest::Image => None,
            HealthTest::Disabled => Some(v1::health_config::Test::Disabled(true)),
            HealthTest::Command(arguments) => {
                Some(v1::health_config::Test::Command(v1::Command { arguments: arguments.clone() }))
            }
            HealthTest::Shell(line) => Some(v1::health_config::Test::Shell(line.clone())),
        };
        Self {
            test,
            interval: config.interval.map(nanos),
            timeout: config.timeout.map(nanos),
            retries: config.retries,
            start_period: config.start_period.map(nanos),
            start_interval: config.start_interval.map(nanos),
        }
    }
}

impl From<v1::HealthConfig> for HealthConfig {
    fn from(message: v1::HealthConfig) -> Self {
        let test = match message.test {
            None => HealthTest::Image,
            Some(v1::health_config::Test::Disabled(_)) => HealthTest::Disabled,
            Some(v1::health_config::Test::Command(command)) => HealthTest::Command(command.arguments),
            Some(v1::health_config::Test::Shell(line)) => HealthTest::Shell(line),
        };
        Self {
            test,
            interval: message.interval.map(duration),
            timeout: message.timeout.map(duration),
            retries: message.retries,
            start_period: message.start_period.map(duration),
            start_interval: message.start_interval.map(duration),
        }
    }
}

impl From<HealthState> for v1::HealthState {
    fn from(state: HealthState) -> Self {
        match state {
            HealthState::Starting => Self::Starting,
            HealthState::Healthy => Self::Healthy,
            HealthState::Unhealthy => Self::Unhealthy,
        }
    }
}

impl From<v1::HealthState> for HealthState {
    fn from(message: v1::HealthState) -> Self {
        match message {
            v1::HealthState::Starting => Self::Starting,
            v1::HealthState::Healthy => Self::Healthy,
            v1::HealthState::Unhealthy => Self::Unhealthy,
        }
    }
}

impl From<&HealthResult> for v1::HealthResult {
    fn from(result: &HealthResult) -> Self {
        Self {
            started_at: result.started_at.as_nanos(),
            took: nanos(result.took),
            code: result.code,
            output: result.output.clone(),
        }
    }
}

impl From<v1::HealthResult> for HealthResult {
    fn from(message: v1::HealthResult) -> Self {
        Self {
            started_at: timestamp(message.started_at),
            took: duration(message.took),
            code: message.code,
            output: message.output,
        }
    }
}

impl From<&Health> for v1::Health {
    fn from(health: &Health) -> Self {
        Self {
            state: v1::HealthState::from(health.state).into(),
            failures: health.failures,
            results: health.results.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::Health> for Health {
    type Error = DecodeError;

    fn try_from(message: v1::Health) -> Result<Self, DecodeError> {
        Ok(Self {
            state: enumerator::<v1::HealthState>("health", message.state)?.into(),
            failures: message.failures,
            results: message.results.into_iter().map(Into::into).collect(),
        })
    }
}
