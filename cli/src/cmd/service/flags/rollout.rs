//! How tasks are replaced: `--update-…` and `--rollback-…`, which set the same things of two plans.

use std::time::Duration;

use coracle_model::rollout::{FailureAction, Order, Ratio, UpdateConfig};
use coracle_proto::convert::nanos;
use coracle_proto::v1;

use crate::opt::{FlagError, choice, count, duration};

/// What is replaced and how, when the specification changes or goes back.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct RolloutFlags {
    /// Tasks that an update replaces at a time; 0 is all (default 1)
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, value_parser = count::parser("update-parallelism"))]
    update_parallelism: Option<u64>,
    /// Wait of an update after the replacement of a task (default 0s)
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = duration::parser("update-delay"))]
    update_delay: Option<Duration>,
    /// How long an update watches a new task for failure after it runs (default 5s); when longer, commands that wait for
    /// the tasks of a new or grown service watch them as long
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = duration::parser("update-monitor"))]
    update_monitor: Option<Duration>,
    /// What an update does when too many new tasks fail: pause, continue or rollback (default pause)
    #[arg(long, value_name = "ACTION", value_parser = choice::parser::<FailureAction>("update-failure-action", "use pause, continue or rollback"))]
    update_failure_action: Option<FailureAction>,
    /// Share of the new tasks of an update that may fail, from 0 to 1 (default 0)
    #[arg(long, value_name = "RATIO", allow_hyphen_values = true, value_parser = choice::parser::<Ratio>("update-max-failure-ratio", "use a number from 0 to 1"))]
    update_max_failure_ratio: Option<Ratio>,
    /// Which task of a slot an update handles first: stop-first or start-first (default stop-first)
    #[arg(long, value_name = "ORDER", value_parser = choice::parser::<Order>("update-order", "use stop-first or start-first"))]
    update_order: Option<Order>,
    /// Time without progress after which an update counts as failed; 0 is no limit (default 10m)
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = duration::parser("update-timeout"))]
    update_timeout: Option<Duration>,
    /// Tasks that a rollback replaces at a time; 0 is all (default 1)
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, value_parser = count::parser("rollback-parallelism"))]
    rollback_parallelism: Option<u64>,
    /// Wait of a rollback after the replacement of a task (default 0s)
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = duration::parser("rollback-delay"))]
    rollback_delay: Option<Duration>,
    /// How long a rollback watches a new task for failure after it runs (default 5s)
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = duration::parser("rollback-monitor"))]
    rollback_monitor: Option<Duration>,
    /// What a rollback does when too many new tasks fail: pause or continue (default pause)
    #[arg(long, value_name = "ACTION", value_parser = rollback_action)]
    rollback_failure_action: Option<FailureAction>,
    /// Share of the new tasks of a rollback that may fail, from 0 to 1 (default 0)
    #[arg(long, value_name = "RATIO", allow_hyphen_values = true, value_parser = choice::parser::<Ratio>("rollback-max-failure-ratio", "use a number from 0 to 1"))]
    rollback_max_failure_ratio: Option<Ratio>,
    /// Which task of a slot a rollback handles first: stop-first or start-first (default stop-first)
    #[arg(long, value_name = "ORDER", value_parser = choice::parser::<Order>("rollback-order", "use stop-first or start-first"))]
    rollback_order: Option<Order>,
    /// Time without progress after which a rollback counts as failed; 0 is no limit (default 10m)
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = duration::parser("rollback-timeout"))]
    rollback_timeout: Option<Duration>,
}

fn rollback_action(text: &str) -> Result<FailureAction, FlagError> {
    match text.parse() {
        Ok(action @ (FailureAction::Pause | FailureAction::Continue)) => Ok(action),
        _ => Err(FlagError::new("rollback-failure-action", text, "use pause or continue")),
    }
}

/// What was given of one plan.
#[derive(Debug, PartialEq, Eq)]
struct Given {
    parallelism: Option<u64>,
    delay: Option<Duration>,
    monitor: Option<Duration>,
    failure_action: Option<FailureAction>,
    max_failure_ratio: Option<Ratio>,
    order: Option<Order>,
    timeout: Option<Duration>,
}

const NOTHING: Given = Given {
    parallelism: None,
    delay: None,
    monitor: None,
    failure_action: None,
    max_failure_ratio: None,
    order: None,
    timeout: None,
};

impl RolloutFlags {
    /// Sets in the specification what was given, and leaves the rest.
    pub(crate) fn apply(&self, spec: &mut v1::ServiceSpec) {
        let update = Given {
            parallelism: self.update_parallelism,
            delay: self.update_delay,
            monitor: self.update_monitor,
            failure_action: self.update_failure_action,
            max_failure_ratio: self.update_max_failure_ratio,
            order: self.update_order,
            timeout: self.update_timeout,
        };
        let rollback = Given {
            parallelism: self.rollback_parallelism,
            delay: self.rollback_delay,
            monitor: self.rollback_monitor,
            failure_action: self.rollback_failure_action,
            max_failure_ratio: self.rollback_max_failure_ratio,
            order: self.rollback_order,
            timeout: self.rollback_timeout,
        };
        update.apply(&mut spec.update);
        rollback.apply(&mut spec.rollback);
    }
}

impl Given {
    fn apply(&self, place: &mut Option<v1::UpdateConfig>) {
        if *self == NOTHING {
            return;
        }
        let config = place.get_or_insert_with(|| (&UpdateConfig::default()).into());
        super::set(&mut config.parallelism, &self.parallelism);
        super::set(&mut config.delay, &self.delay.map(nanos));
        config.monitor = self.monitor.map(nanos).or(config.monitor);
        super::set(
            &mut config.failure_action,
            &self.failure_action.map(|action| v1::FailureAction::from(action).into()),
        );
        super::set(&mut config.max_failure_ratio, &self.max_failure_ratio.map(Ratio::millionths));
        super::set(&mut config.order, &self.order.map(|order| v1::UpdateOrder::from(order).into()));
        config.timeout = self.timeout.map(nanos).or(config.timeout);
    }
}
