//! Tasks.

use std::collections::BTreeMap;

use coracle_proto::v1;
use serde::Serialize;

use super::spec::TaskSpec;
use crate::opt::port;
use crate::output::{time, words};

/// `task inspect`, and one line of `service ps` and `node ps`.
#[derive(Debug, Serialize)]
pub(crate) struct Task {
    id: String,
    name: String,
    version: u64,
    created_at: Option<String>,
    service_id: String,
    service: String,
    spec_version: u64,
    slot: Slot,
    node_id: Option<String>,
    node: Option<String>,
    image: String,
    /// Runs what its service wants at present.
    up_to_date: bool,
    /// Of its node's other things, by kind: names, or how many of what has none.
    generic_resources: BTreeMap<String, Vec<String>>,
    desired_state: String,
    start_after: Option<String>,
    status: Status,
    /// Why it has no node yet.
    waiting: Option<String>,
    /// Ports of its node, while it has them.
    ports: Vec<String>,
    /// The run of a job that it belongs to.
    run: Option<u64>,
    /// What it runs; only where one task is looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    spec: Option<TaskSpec>,
}

/// The place in the service.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Slot {
    /// Of a replicated service.
    Number {
        /// From 1 on.
        number: u64,
    },
    /// Of a global service.
    Node {
        /// The node's id.
        node: String,
    },
    /// Of a kind that this version does not know.
    Unknown {},
}

#[derive(Debug, Serialize)]
struct Status {
    state: String,
    since: Option<String>,
    message: String,
    error: String,
    exit: Option<Exit>,
    pid: Option<u32>,
    local_restarts: u32,
    /// Nothing where it has no health check.
    health: Option<Health>,
}

/// What its health check found.
#[derive(Debug, Serialize)]
struct Health {
    state: &'static str,
    /// Since the last success.
    failures: u32,
    /// The newest last.
    results: Vec<HealthResult>,
}

#[derive(Debug, Serialize)]
struct HealthResult {
    started_at: Option<String>,
    took_ns: u64,
    /// Nothing when it took too long or could not be run.
    code: Option<i32>,
    output: String,
}

#[derive(Debug, Serialize)]
struct Exit {
    code: Option<i32>,
    signal: Option<i32>,
    out_of_memory: bool,
    description: String,
}

fn filled(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

impl From<Option<v1::Slot>> for Slot {
    fn from(slot: Option<v1::Slot>) -> Self {
        match slot.and_then(|slot| slot.slot) {
            Some(v1::slot::Slot::Number(number)) => Self::Number { number },
            Some(v1::slot::Slot::Node(node)) => Self::Node { node },
            None => Self::Unknown {},
        }
    }
}

impl From<v1::TaskListItem> for Task {
    fn from(item: v1::TaskListItem) -> Self {
        let task = item.task.unwrap_or_default();
        let state = task.status.as_ref().map_or(0, |status| status.state);
        let ports = if words::holds_ports(state) { item.host_ports } else { Vec::new() };
        Self {
            up_to_date: item.up_to_date,
            ports: ports.iter().map(port::render).collect(),
            run: (task.run > 0).then_some(task.run),
            spec: item.spec.map(Into::into),
            desired_state: words::wanted_state(&task),
            name: format!("{}.{}", item.service_name, words::slot(task.slot.as_ref())),
            id: task.id,
            version: task.version,
            created_at: time::rfc3339(task.created_at),
            service_id: task.service,
            service: item.service_name,
            spec_version: task.spec_version,
            slot: task.slot.into(),
            node_id: filled(task.node),
            node: filled(item.node_hostname),
            image: item.image,
            generic_resources: task.generic.into_iter().map(|(kind, names)| (kind, names.names)).collect(),
            start_after: task.start_after.and_then(time::rfc3339),
            status: task.status.unwrap_or_default().into(),
            waiting: filled(item.waiting),
        }
    }
}

impl From<v1::TaskStatus> for Status {
    fn from(status: v1::TaskStatus) -> Self {
        Self {
            state: words::task_state(status.state),
            since: time::rfc3339(status.since),
            message: status.message,
            error: status.error,
            exit: status.exit.map(Into::into),
            pid: (status.pid != 0).then_some(status.pid),
            local_restarts: status.local_restarts,
            health: status.health.map(Into::into),
        }
    }
}

impl From<v1::Health> for Health {
    fn from(health: v1::Health) -> Self {
        let result = |result: v1::HealthResult| HealthResult {
            started_at: time::rfc3339(result.started_at),
            took_ns: result.took,
            code: result.code,
            output: result.output,
        };
        Self {
            state: match health.state() {
                v1::HealthState::Starting => "starting",
                v1::HealthState::Healthy => "healthy",
                v1::HealthState::Unhealthy => "unhealthy",
            },
            failures: health.failures,
            results: health.results.into_iter().map(result).collect(),
        }
    }
}

impl From<v1::Exit> for Exit {
    fn from(exit: v1::Exit) -> Self {
        use v1::exit::How;
        Self {
            description: words::exit(&exit),
            code: match exit.how {
                Some(How::Code(code)) => Some(code),
                _ => None,
            },
            signal: match exit.how {
                Some(How::Signal(signal)) => Some(signal),
                _ => None,
            },
            out_of_memory: matches!(exit.how, Some(How::OutOfMemory(_))),
        }
    }
}
