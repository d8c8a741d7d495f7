//! Which services can be moved to better nodes, and within which limits.

use crate::placement::Strategy;
use crate::rebalance::{RebalanceConfig, SHORTEST_PAUSE};
use crate::service::{ServiceMode, ServiceSpec};

use super::rollout::seconds;
use super::{Invalid, duration, invalid};

pub(super) fn check(spec: &ServiceSpec) -> Result<(), Invalid> {
    let config = &spec.rebalance;
    if config.max_skew == 0 {
        return invalid("rebalance-max-skew", "0", "two nodes may always differ by one task; use 1 or more");
    }
    duration("rebalance-delay", config.delay)?;
    if config.delay < SHORTEST_PAUSE {
        return invalid("rebalance-delay", seconds(config.delay), "use 1s or more");
    }
    if *config == RebalanceConfig::default() {
        return Ok(());
    }
    match rebalanceable(spec) {
        Ok(()) => Ok(()),
        Err(problem) => invalid("rebalance", config.policy.as_str(), problem),
    }
}

/// Whether tasks of a service can be moved to better nodes at all.
///
/// # Errors
/// Why not, for the operator.
pub fn rebalanceable(spec: &ServiceSpec) -> Result<(), &'static str> {
    let placement = &spec.task.placement;
    match spec.mode {
        ServiceMode::Global => Err("a global service has one task on every node: there is nothing to move"),
        ServiceMode::ReplicatedJob { .. } | ServiceMode::GlobalJob => {
            Err("tasks of jobs are not moved: they end")
        }
        ServiceMode::Replicated { .. }
            if placement.strategy == Strategy::Binpack && placement.preferences.is_empty() =>
        {
            Err("a service with placement-strategy binpack is to be uneven; use spread, or a preference")
        }
        ServiceMode::Replicated { .. } => Ok(()),
    }
}
