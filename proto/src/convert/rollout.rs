//! How tasks are replaced, and where that stands.

use coracle_model::rollout::{
    DEFAULT_MONITOR, DEFAULT_TIMEOUT, FailureAction, Order, Ratio, UpdateConfig, UpdateProgress, UpdateState,
};

use super::{DecodeError, duration, enumerator, nanos, parse, timestamp};
use crate::v1;

impl From<FailureAction> for v1::FailureAction {
    fn from(action: FailureAction) -> Self {
        match action {
            FailureAction::Pause => Self::Pause,
            FailureAction::Continue => Self::Continue,
            FailureAction::Rollback => Self::Rollback,
        }
    }
}

impl From<v1::FailureAction> for FailureAction {
    fn from(message: v1::FailureAction) -> Self {
        match message {
            v1::FailureAction::Pause => Self::Pause,
            v1::FailureAction::Continue => Self::Continue,
            v1::FailureAction::Rollback => Self::Rollback,
        }
    }
}

impl From<Order> for v1::UpdateOrder {
    fn from(order: Order) -> Self {
        match order {
            Order::StopFirst => Self::StopFirst,
            Order::StartFirst => Self::StartFirst,
        }
    }
}

impl From<v1::UpdateOrder> for Order {
    fn from(message: v1::UpdateOrder) -> Self {
        match message {
            v1::UpdateOrder::StopFirst => Self::StopFirst,
            v1::UpdateOrder::StartFirst => Self::StartFirst,
        }
    }
}

impl From<&UpdateConfig> for v1::UpdateConfig {
    fn from(config: &UpdateConfig) -> Self {
        Self {
            parallelism: config.parallelism,
            delay: nanos(config.delay),
            monitor: Some(nanos(config.monitor)),
            failure_action: v1::FailureAction::from(config.failure_action).into(),
            max_failure_ratio: config.max_failure_ratio.millionths(),
            order: v1::UpdateOrder::from(config.order).into(),
            timeout: Some(nanos(config.timeout)),
        }
    }
}

impl TryFrom<v1::UpdateConfig> for UpdateConfig {
    type Error = DecodeError;

    fn try_from(message: v1::UpdateConfig) -> Result<Self, DecodeError> {
        let ratio = Ratio::from_millionths(message.max_failure_ratio).ok_or_else(|| {
            DecodeError::invalid("max-failure-ratio", message.max_failure_ratio, "at most 1000000 millionths")
        })?;
        Ok(Self {
            parallelism: message.parallelism,
            delay: duration(message.delay),
            monitor: message.monitor.map_or(DEFAULT_MONITOR, duration),
            failure_action: enumerator::<v1::FailureAction>("failure-action", message.failure_action)?.into(),
            max_failure_ratio: ratio,
            order: enumerator::<v1::UpdateOrder>("order", message.order)?.into(),
            timeout: message.timeout.map_or(DEFAULT_TIMEOUT, duration),
        })
    }
}

impl From<UpdateState> for v1::UpdateState {
    fn from(state: UpdateState) -> Self {
        match state {
            UpdateState::Updating => Self::Updating,
            UpdateState::Paused => Self::Paused,
            UpdateState::Completed => Self::Completed,
            UpdateState::RollbackStarted => Self::RollbackStarted,
            UpdateState::RollbackPaused => Self::RollbackPaused,
            UpdateState::RollbackCompleted => Self::RollbackCompleted,
        }
    }
}

impl TryFrom<v1::UpdateState> for UpdateState {
    type Error = DecodeError;

    fn try_from(message: v1::UpdateState) -> Result<Self, DecodeError> {
        match message {
            v1::UpdateState::Updating => Ok(Self::Updating),
            v1::UpdateState::Paused => Ok(Self::Paused),
            v1::UpdateState::Completed => Ok(Self::Completed),
            v1::UpdateState::RollbackStarted => Ok(Self::RollbackStarted),
            v1::UpdateState::RollbackPaused => Ok(Self::RollbackPaused),
            v1::UpdateState::RollbackCompleted => Ok(Self::RollbackCompleted),
            v1::UpdateState::Unspecified => Err(DecodeError::Missing { field: "update state" }),
        }
    }
}

impl From<&UpdateProgress> for v1::UpdateProgress {
    fn from(progress: &UpdateProgress) -> Self {
        Self {
            state: v1::UpdateState::from(progress.state).into(),
            started_at: progress.started_at.as_nanos(),
            completed_at: progress.completed_at.map(|time| time.as_nanos()),
            message: progress.message.clone(),
            slots: progress.slots,
            failed: progress.failed.iter().map(ToString::to_string).collect(),
        }
    }
}

impl TryFrom<v1::UpdateProgress> for UpdateProgress {
    type Error = DecodeError;

    fn try_from(message: v1::UpdateProgress) -> Result<Self, DecodeError> {
        let failed =
            message.failed.iter().map(|task| parse("failed task", task)).collect::<Result<_, _>>()?;
        Ok(Self {
            state: enumerator::<v1::UpdateState>("update state", message.state)?.try_into()?,
            started_at: timestamp(message.started_at),
            completed_at: message.completed_at.map(timestamp),
            message: message.message,
            slots: message.slots,
            failed,
        })
    }
}
