//! Where tasks run: single values. Constraints and preferences are lists.

use coracle_model::placement::Strategy;
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
    /// Move tasks by itself when nodes join or return
    #[arg(long, value_name = "BOOLEAN", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    rebalance: Option<bool>,
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
        super::set(&mut spec.rebalance, &self.rebalance);
        if let Some(Perhaps(delay)) = self.node_down_delay {
            spec.node_down_delay = delay.map(nanos);
        }
    }
}

fn strategy(strategy: Strategy) -> i32 {
    match strategy {
        Strategy::Spread => v1::PlacementStrategy::Spread,
        Strategy::Binpack => v1::PlacementStrategy::Binpack,
    }
    .into()
}
