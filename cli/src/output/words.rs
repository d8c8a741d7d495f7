//! Words for what messages carry as numbers. Numbers of a newer version are shown as they are.

use std::collections::HashMap;

use coracle_model::job::Concurrency;
use coracle_model::rebalance::RebalanceState;
use coracle_model::rollout::{FailureAction, Order, UpdateState};
use coracle_model::security::NamespaceMode;
use coracle_model::task::{DesiredState, TaskState};
use coracle_proto::v1;

/// The observed state of a task.
pub(crate) fn task_state(number: u32) -> String {
    let known = u16::try_from(number).ok().and_then(TaskState::from_number);
    known.map_or_else(|| format!("state-{number}"), |state| state.as_str().to_owned())
}

/// The desired state of a task.
pub(crate) fn desired_state(number: u32) -> String {
    let known = u16::try_from(number).ok().and_then(DesiredState::from_number);
    known.map_or_else(|| format!("state-{number}"), |state| state.as_str().to_owned())
}

/// What is wanted of a task, as it is shown: a job's task is to come to its end, as in Swarm.
pub(crate) fn wanted_state(task: &v1::Task) -> String {
    if task.run > 0 && task.desired == u32::from(DesiredState::Running.number()) {
        return TaskState::Complete.as_str().to_owned();
    }
    desired_state(task.desired)
}

/// What managers can want of a task, as it is shown.
pub(crate) fn wanted_states() -> Vec<&'static str> {
    let mut states: Vec<_> = DesiredState::ALL.iter().map(|state| state.as_str()).collect();
    states.insert(2, TaskState::Complete.as_str());
    states
}

/// Every observed state.
pub(crate) fn task_states() -> Vec<&'static str> {
    TaskState::ALL.iter().map(|state| state.as_str()).collect()
}

/// Whether a task in this state may have the ports that it takes.
pub(crate) fn holds_ports(state: u32) -> bool {
    let known = u16::try_from(state).ok().and_then(TaskState::from_number);
    matches!(known, Some(TaskState::Starting | TaskState::Running))
}

/// The role of a node.
pub(crate) fn role(number: i32) -> &'static str {
    match v1::NodeRole::try_from(number) {
        Ok(v1::NodeRole::Worker) => "worker",
        Ok(v1::NodeRole::Manager) => "manager",
        Ok(v1::NodeRole::Unspecified) => "",
        Err(_) => "unknown",
    }
}

/// Whether a node gets and keeps tasks.
pub(crate) fn availability(number: i32) -> &'static str {
    match v1::Availability::try_from(number) {
        Ok(v1::Availability::Active) => "active",
        Ok(v1::Availability::Pause) => "pause",
        Ok(v1::Availability::Drain) => "drain",
        Err(_) => "unknown",
    }
}

/// The state of a node.
pub(crate) fn node_state(number: i32) -> &'static str {
    match v1::NodeState::try_from(number) {
        Ok(v1::NodeState::Ready) => "ready",
        Ok(v1::NodeState::Down) => "down",
        Ok(v1::NodeState::Unknown) | Err(_) => "unknown",
    }
}

/// When tasks are replaced.
pub(crate) fn restart_condition(number: i32) -> &'static str {
    match v1::RestartCondition::try_from(number) {
        Ok(v1::RestartCondition::Any) => "any",
        Ok(v1::RestartCondition::OnFailure) => "on-failure",
        Ok(v1::RestartCondition::None) => "none",
        Err(_) => "unknown",
    }
}

/// How containers reach the network.
pub(crate) fn network(number: i32) -> &'static str {
    match v1::NetworkMode::try_from(number) {
        Ok(v1::NetworkMode::None) => "none",
        Ok(v1::NetworkMode::Host) => "host",
        Err(_) => "unknown",
    }
}

/// Where the replacement of tasks stands.
pub(crate) fn update_state(number: i32) -> &'static str {
    match v1::UpdateState::try_from(number) {
        Ok(v1::UpdateState::Unspecified) => "",
        Ok(state) => UpdateState::try_from(state).map_or("unknown", UpdateState::as_str),
        Err(_) => "unknown",
    }
}

/// Where moving tasks to better nodes stands.
pub(crate) fn rebalance_state(number: i32) -> &'static str {
    match v1::RebalanceState::try_from(number) {
        Ok(v1::RebalanceState::Unspecified) => "",
        Ok(state) => RebalanceState::try_from(state).map_or("unknown", RebalanceState::as_str),
        Err(_) => "unknown",
    }
}

/// What an update does when too many new tasks fail.
pub(crate) fn failure_action(number: i32) -> &'static str {
    v1::FailureAction::try_from(number).map_or("unknown", |action| FailureAction::from(action).as_str())
}

/// Which task of a slot goes first.
pub(crate) fn update_order(number: i32) -> &'static str {
    v1::UpdateOrder::try_from(number).map_or("unknown", |order| Order::from(order).as_str())
}

/// What happens when a run is due and the one before has not ended.
pub(crate) fn concurrency(number: i32) -> &'static str {
    v1::JobConcurrency::try_from(number).map_or("unknown", |rule| Concurrency::from(rule).as_str())
}

/// Whether a kind of namespace is shared with the node.
pub(crate) fn namespace(number: i32) -> &'static str {
    v1::NamespaceMode::try_from(number).map_or("unknown", |mode| NamespaceMode::from(mode).as_str())
}

/// How nodes that are otherwise equal are chosen.
pub(crate) fn strategy(number: i32) -> &'static str {
    match v1::PlacementStrategy::try_from(number) {
        Ok(v1::PlacementStrategy::Spread) => "spread",
        Ok(v1::PlacementStrategy::Binpack) => "binpack",
        Err(_) => "unknown",
    }
}

/// A protocol with ports.
pub(crate) fn protocol(number: i32) -> &'static str {
    match v1::PortProtocol::try_from(number) {
        Ok(v1::PortProtocol::Tcp) => "tcp",
        Ok(v1::PortProtocol::Udp) => "udp",
        Ok(v1::PortProtocol::Sctp) => "sctp",
        Err(_) => "unknown",
    }
}

/// The kind of a service.
pub(crate) const fn mode(mode: Option<&v1::service_spec::Mode>) -> &'static str {
    match mode {
        Some(v1::service_spec::Mode::Replicated(_)) => "replicated",
        Some(v1::service_spec::Mode::Global(_)) => "global",
        Some(v1::service_spec::Mode::ReplicatedJob(_)) => "replicated-job",
        Some(v1::service_spec::Mode::GlobalJob(_)) => "global-job",
        None => "unknown",
    }
}

/// Whether its tasks are to end.
pub(crate) fn is_job(spec: Option<&v1::ServiceSpec>) -> bool {
    use v1::service_spec::Mode;
    matches!(spec.and_then(|spec| spec.mode.as_ref()), Some(Mode::ReplicatedJob(_) | Mode::GlobalJob(_)))
}

/// `3/5`, and for a job also how many of how many completed.
pub(crate) fn replicas(spec: &v1::ServiceSpec, counts: v1::ServiceCounts) -> String {
    let running = format!("{}/{}", counts.running, counts.desired);
    if is_job(Some(spec)) {
        return format!("{running} ({}/{} completed)", counts.completed, counts.total);
    }
    running
}

/// The place of a task in its service: a number, or the node of a global one.
pub(crate) fn slot(slot: Option<&v1::Slot>) -> String {
    match slot.and_then(|slot| slot.slot.as_ref()) {
        Some(v1::slot::Slot::Number(number)) => number.to_string(),
        Some(v1::slot::Slot::Node(node)) => node.clone(),
        None => "?".to_owned(),
    }
}

/// How a process ended.
pub(crate) fn exit(exit: &v1::Exit) -> String {
    coracle_model::task::Exit::from(*exit).to_string()
}

/// Labels in one cell, in order.
pub(crate) fn labels(labels: &HashMap<String, String>) -> String {
    let mut labels: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    labels.sort();
    labels.join(",")
}

/// The word with a capital, as Docker's tables have it.
pub(crate) fn capital(word: &str) -> String {
    let mut characters = word.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}
