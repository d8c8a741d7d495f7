//! Services and their specifications.

mod draft;

pub use draft::{Draft, draft, spec_with_digest};

use coracle_model::rebalance::RebalanceConfig;
use coracle_model::restart::{DEFAULT_DELAY, RestartCondition, RestartPolicy};
use coracle_model::service::{NetworkMode, Service, ServiceMode, ServiceSpec, TaskSpec, UpdateConfig};
use coracle_model::version::Version;

use super::{DecodeError, duration, enumerator, nanos, parse, required, timestamp};
use crate::v1;

impl From<RestartCondition> for v1::RestartCondition {
    fn from(condition: RestartCondition) -> Self {
        match condition {
            RestartCondition::None => Self::None,
            RestartCondition::OnFailure => Self::OnFailure,
            RestartCondition::Any => Self::Any,
        }
    }
}

impl From<v1::RestartCondition> for RestartCondition {
    fn from(message: v1::RestartCondition) -> Self {
        match message {
            v1::RestartCondition::None => Self::None,
            v1::RestartCondition::OnFailure => Self::OnFailure,
            v1::RestartCondition::Any => Self::Any,
        }
    }
}

impl From<&RestartPolicy> for v1::RestartPolicy {
    fn from(policy: &RestartPolicy) -> Self {
        Self {
            condition: v1::RestartCondition::from(policy.condition).into(),
            delay: Some(nanos(policy.delay)),
            max_attempts: policy.max_attempts,
            window: nanos(policy.window),
        }
    }
}

impl TryFrom<v1::RestartPolicy> for RestartPolicy {
    type Error = DecodeError;

    fn try_from(message: v1::RestartPolicy) -> Result<Self, DecodeError> {
        Ok(Self {
            condition: enumerator::<v1::RestartCondition>("restart-condition", message.condition)?.into(),
            delay: message.delay.map_or(DEFAULT_DELAY, duration),
            max_attempts: message.max_attempts,
            window: duration(message.window),
        })
    }
}

impl From<NetworkMode> for v1::NetworkMode {
    fn from(mode: NetworkMode) -> Self {
        match mode {
            NetworkMode::None => Self::None,
            NetworkMode::Host => Self::Host,
        }
    }
}

impl From<v1::NetworkMode> for NetworkMode {
    fn from(message: v1::NetworkMode) -> Self {
        match message {
            v1::NetworkMode::None => Self::None,
            v1::NetworkMode::Host => Self::Host,
        }
    }
}

impl From<&TaskSpec> for v1::TaskSpec {
    fn from(spec: &TaskSpec) -> Self {
        Self {
            container: Some((&spec.container).into()),
            reservations: Some((&spec.reservations).into()),
            limits: Some((&spec.limits).into()),
            restart: Some((&spec.restart).into()),
            placement: Some((&spec.placement).into()),
            network: v1::NetworkMode::from(spec.network).into(),
            force_update: spec.force_update,
            generic: spec.generic.clone().into_iter().collect(),
        }
    }
}

impl TryFrom<v1::TaskSpec> for TaskSpec {
    type Error = DecodeError;

    fn try_from(mut message: v1::TaskSpec) -> Result<Self, DecodeError> {
        let container = required("container", message.container.take())?.try_into()?;
        with_container(message, container)
    }
}

/// Everything but the container, which is decided elsewhere.
fn with_container(
    message: v1::TaskSpec,
    container: coracle_model::service::ContainerSpec,
) -> Result<TaskSpec, DecodeError> {
    Ok(TaskSpec {
        container,
        reservations: message.reservations.unwrap_or_default().into(),
        limits: message.limits.unwrap_or_default().into(),
        restart: message.restart.unwrap_or_default().try_into()?,
        placement: message.placement.unwrap_or_default().try_into()?,
        network: enumerator::<v1::NetworkMode>("network", message.network)?.into(),
        force_update: message.force_update,
        generic: message.generic.into_iter().collect(),
    })
}

impl From<ServiceMode> for v1::service_spec::Mode {
    fn from(mode: ServiceMode) -> Self {
        match mode {
            ServiceMode::Replicated { replicas } => Self::Replicated(v1::Replicated { replicas }),
            ServiceMode::Global => Self::Global(v1::Global {}),
            ServiceMode::ReplicatedJob { completions, concurrent } => {
                Self::ReplicatedJob(v1::ReplicatedJob { completions, concurrent })
            }
            ServiceMode::GlobalJob => Self::GlobalJob(v1::GlobalJob {}),
        }
    }
}

impl From<v1::service_spec::Mode> for ServiceMode {
    fn from(message: v1::service_spec::Mode) -> Self {
        match message {
            v1::service_spec::Mode::Replicated(replicated) => {
                Self::Replicated { replicas: replicated.replicas }
            }
            v1::service_spec::Mode::Global(v1::Global {}) => Self::Global,
            v1::service_spec::Mode::ReplicatedJob(job) => {
                Self::ReplicatedJob { completions: job.completions, concurrent: job.concurrent }
            }
            v1::service_spec::Mode::GlobalJob(v1::GlobalJob {}) => Self::GlobalJob,
        }
    }
}

impl From<&ServiceSpec> for v1::ServiceSpec {
    fn from(spec: &ServiceSpec) -> Self {
        Self {
            name: spec.name.to_string(),
            labels: spec.labels.clone().into_iter().collect(),
            mode: Some(spec.mode.into()),
            task: Some((&spec.task).into()),
            update: Some((&spec.update).into()),
            rollback: Some((&spec.rollback).into()),
            job: Some((&spec.job).into()),
            rebalance: Some((&spec.rebalance).into()),
            node_down_delay: spec.node_down_delay.map(nanos),
        }
    }
}

impl TryFrom<v1::ServiceSpec> for ServiceSpec {
    type Error = DecodeError;

    fn try_from(message: v1::ServiceSpec) -> Result<Self, DecodeError> {
        Ok(Self {
            name: name(&message.name)?,
            labels: message.labels.into_iter().collect(),
            mode: required("mode", message.mode)?.into(),
            task: required("task", message.task)?.try_into()?,
            update: update_config(message.update)?,
            rollback: update_config(message.rollback)?,
            job: message.job.unwrap_or_default().try_into()?,
            rebalance: rebalance_config(message.rebalance)?,
            node_down_delay: message.node_down_delay.map(duration),
        })
    }
}

fn update_config(message: Option<v1::UpdateConfig>) -> Result<UpdateConfig, DecodeError> {
    message.map_or_else(|| Ok(UpdateConfig::default()), TryInto::try_into)
}

fn rebalance_config(message: Option<v1::RebalanceConfig>) -> Result<RebalanceConfig, DecodeError> {
    message.map_or_else(|| Ok(RebalanceConfig::default()), TryInto::try_into)
}

fn name(text: &str) -> Result<coracle_model::name::ServiceName, DecodeError> {
    text.parse().map_err(|_| {
        let problem = format!(
            "a service name has 1 to {} letters, digits, '-' and '_', and begins and ends with a letter or a digit",
            coracle_model::name::SERVICE_NAME_LIMIT
        );
        DecodeError::invalid("name", text, problem)
    })
}

impl From<&Service> for v1::Service {
    fn from(service: &Service) -> Self {
        Self {
            id: service.id.to_string(),
            version: service.version.index(),
            spec_version: service.spec_version.index(),
            created_at: service.created_at.as_nanos(),
            updated_at: service.updated_at.as_nanos(),
            spec: Some((&service.spec).into()),
            previous_spec: service.previous_spec.as_deref().map(Into::into),
            update: service.update.as_ref().map(Into::into),
            job: service.job.as_ref().map(Into::into),
            rebalance: service.rebalance.as_deref().map(Into::into),
        }
    }
}

impl TryFrom<v1::Service> for Service {
    type Error = DecodeError;

    fn try_from(message: v1::Service) -> Result<Self, DecodeError> {
        let previous = message.previous_spec.map(ServiceSpec::try_from).transpose()?;
        Ok(Self {
            id: parse("service", &message.id)?,
            version: Version::new(message.version),
            spec_version: Version::new(message.spec_version),
            created_at: timestamp(message.created_at),
            updated_at: timestamp(message.updated_at),
            spec: required("service spec", message.spec)?.try_into()?,
            previous_spec: previous.map(Box::new),
            update: message.update.map(TryInto::try_into).transpose()?,
            job: message.job.map(Into::into),
            rebalance: message.rebalance.map(TryInto::try_into).transpose()?.map(Box::new),
        })
    }
}
