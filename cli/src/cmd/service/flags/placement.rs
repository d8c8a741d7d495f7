//! Where tasks run: single values. Constraints and preferences are lists.

use std::time::Duration;

use coracle_model::placement::Strategy;
use coracle_model::rebalance::{RebalanceConfig, RebalancePolicy};
use coracle_model::rollout::Order;
use coracle_proto::convert::nanos;
use coracle_proto::v1;

use crate::opt::duration::{self, Perhaps};
use crate::opt::{choice, count};

/// Flags of the placement.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct PlacementFlags {
    /// Tasks of the service on one node at most; 0 is no limit
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, value_parser = count::parser("replicas-max-per-node"))]
    replicas_max_per_node: Option<u64>,
    /// How nodes that are otherwise equal are chosen: spread (the emptiest) or binpack (the fullest) (default spread)
    #[arg(long, value_name = "STRATEGY", value_parser = choice::parser::<Strategy>("placement-strategy", "use spread or binpack"))]
    placement_strategy: Option<Strategy>,
    /// Whether tasks are moved by itself when nodes join or return: auto or off (default off)
    #[arg(long, value_name = "POLICY", value_parser = choice::parser::<RebalancePolicy>("rebalance", "use auto or off"))]
    rebalance: Option<RebalancePolicy>,
    /// Tasks by which nodes may differ before any is moved (default 1)
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, value_parser = count::parser("rebalance-max-skew"))]
    rebalance_max_skew: Option<u64>,
    /// Pause after a task was moved; one is moved at a time (default 30s)
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = duration::parser("rebalance-delay"))]
    rebalance_delay: Option<Duration>,
    /// Which task of a slot goes first when it is moved: start-first or stop-first (default start-first)
    #[arg(long, value_name = "ORDER", value_parser = choice::parser::<Order>("rebalance-order", "use stop-first or start-first"))]
    rebalance_order: Option<Order>,
    /// How long a node may be down before the service's tasks on it are replaced, or none (the cluster's grace alone)
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = duration::perhaps("node-down-delay"))]
    node_down_delay: Option<Perhaps>,
}

impl PlacementFlags {
    /// Sets in the specification what was given, and leaves the rest.
    pub(crate) fn apply(&self, spec: &mut v1::ServiceSpec) {
        let placement = spec.task.get_or_insert_default().placement.get_or_insert_default();
        super::set(&mut placement.max_replicas_per_node, &self.replicas_max_per_node);
        super::set(&mut placement.strategy, &self.placement_strategy.map(strategy));
        self.apply_rebalance(&mut spec.rebalance);
        if let Some(Perhaps(delay)) = self.node_down_delay {
            spec.node_down_delay = delay.map(nanos);
        }
    }

    fn apply_rebalance(&self, place: &mut Option<v1::RebalanceConfig>) {
        let given = self.rebalance.is_some()
            || self.rebalance_max_skew.is_some()
            || self.rebalance_delay.is_some()
            || self.rebalance_order.is_some();
        if !given {
            return;
        }
        let config = place.get_or_insert_with(|| (&RebalanceConfig::default()).into());
        super::set(&mut config.auto, &self.rebalance.map(|policy| policy == RebalancePolicy::Auto));
        super::set(&mut config.max_skew, &self.rebalance_max_skew);
        super::set(&mut config.delay, &self.rebalance_delay.map(nanos));
        super::set(&mut config.order, &self.rebalance_order.map(|order| v1::UpdateOrder::from(order).into()));
    }
}

fn strategy(strategy: Strategy) -> i32 {
    match strategy {
        Strategy::Spread => v1::PlacementStrategy::Spread,
        Strategy::Binpack => v1::PlacementStrategy::Binpack,
    }
    .into()
}
