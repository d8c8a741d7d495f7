//! Moving tasks to better nodes.

use coracle_model::rebalance::{Move, RebalanceConfig, RebalancePolicy, RebalanceProgress, RebalanceState};

use super::{DecodeError, duration, enumerator, nanos, parse, timestamp};
use crate::v1;

impl From<&RebalanceConfig> for v1::RebalanceConfig {
    fn from(config: &RebalanceConfig) -> Self {
        Self {
            auto: config.policy == RebalancePolicy::Auto,
            max_skew: config.max_skew,
            delay: nanos(config.delay),
            order: v1::UpdateOrder::from(config.order).into(),
        }
    }
}

impl TryFrom<v1::RebalanceConfig> for RebalanceConfig {
    type Error = DecodeError;

    fn try_from(message: v1::RebalanceConfig) -> Result<Self, DecodeError> {
        Ok(Self {
            policy: if message.auto { RebalancePolicy::Auto } else { RebalancePolicy::Off },
            max_skew: message.max_skew,
            delay: duration(message.delay),
            order: enumerator::<v1::UpdateOrder>("order", message.order)?.into(),
        })
    }
}

impl From<RebalanceState> for v1::RebalanceState {
    fn from(state: RebalanceState) -> Self {
        match state {
            RebalanceState::Moving => Self::Moving,
            RebalanceState::Completed => Self::Completed,
            RebalanceState::Stopped => Self::Stopped,
        }
    }
}

impl TryFrom<v1::RebalanceState> for RebalanceState {
    type Error = DecodeError;

    fn try_from(message: v1::RebalanceState) -> Result<Self, DecodeError> {
        match message {
            v1::RebalanceState::Moving => Ok(Self::Moving),
            v1::RebalanceState::Completed => Ok(Self::Completed),
            v1::RebalanceState::Stopped => Ok(Self::Stopped),
            v1::RebalanceState::Unspecified => Err(DecodeError::Missing { field: "rebalance state" }),
        }
    }
}

impl From<&RebalanceProgress> for v1::RebalanceProgress {
    fn from(progress: &RebalanceProgress) -> Self {
        let moving =
            |moving: Move| v1::RebalanceMove { from: moving.from.to_string(), to: moving.to.to_string() };
        Self {
            state: v1::RebalanceState::from(progress.state).into(),
            automatic: progress.automatic,
            started_at: progress.started_at.as_nanos(),
            ended_at: progress.ended_at.map(|time| time.as_nanos()),
            message: progress.message.clone(),
            moves: progress.moves,
            limit: progress.limit,
            since: progress.since.as_nanos(),
            moving: progress.moving.map(moving),
        }
    }
}

impl TryFrom<v1::RebalanceProgress> for RebalanceProgress {
    type Error = DecodeError;

    fn try_from(message: v1::RebalanceProgress) -> Result<Self, DecodeError> {
        let moving = |moving: v1::RebalanceMove| -> Result<Move, DecodeError> {
            Ok(Move { from: parse("task", &moving.from)?, to: parse("task", &moving.to)? })
        };
        Ok(Self {
            state: enumerator::<v1::RebalanceState>("rebalance state", message.state)?.try_into()?,
            automatic: message.automatic,
            started_at: timestamp(message.started_at),
            ended_at: message.ended_at.map(timestamp),
            message: message.message,
            moves: message.moves,
            limit: message.limit,
            since: timestamp(message.since),
            moving: message.moving.map(moving).transpose()?,
        })
    }
}
