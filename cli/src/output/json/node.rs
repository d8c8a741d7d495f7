//! Nodes.

use std::collections::BTreeMap;

use coracle_proto::v1;
use serde::Serialize;

use crate::output::{time, words};

/// `node inspect`, and one line of `node ls`.
#[derive(Debug, Serialize)]
pub(crate) struct Node {
    id: String,
    version: u64,
    created_at: Option<String>,
    hostname: String,
    role: &'static str,
    availability: &'static str,
    labels: BTreeMap<String, String>,
    status: Status,
    platform: Platform,
    resources: Resources,
    generic_resources: BTreeMap<String, Generic>,
    engine_version: String,
    engine_labels: BTreeMap<String, String>,
    manager: Option<Manager>,
    #[serde(rename = "self")]
    is_self: bool,
}

#[derive(Debug, Serialize)]
struct Status {
    state: &'static str,
    since: Option<String>,
    message: String,
    address: String,
}

#[derive(Debug, Serialize)]
struct Platform {
    os: String,
    architecture: String,
}

#[derive(Debug, Serialize)]
struct Resources {
    nano_cpus: u64,
    memory_bytes: u64,
}

/// What a node has of a kind: a number, or names.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Generic {
    Count(u64),
    Names(Vec<String>),
}

impl From<v1::GenericResource> for Generic {
    fn from(resource: v1::GenericResource) -> Self {
        if resource.names.is_empty() { Self::Count(resource.count) } else { Self::Names(resource.names) }
    }
}

#[derive(Debug, Serialize)]
struct Manager {
    raft_id: u64,
    address: String,
    leader: bool,
    reachable: bool,
    voter: bool,
}

impl From<v1::NodeListItem> for Node {
    fn from(item: v1::NodeListItem) -> Self {
        let node = item.node.unwrap_or_default();
        let spec = node.spec.unwrap_or_default();
        let description = node.description.unwrap_or_default();
        let status = node.status.unwrap_or_default();
        let platform = description.platform.unwrap_or_default();
        let resources = description.resources.unwrap_or_default();
        Self {
            id: node.id,
            version: node.version,
            created_at: time::rfc3339(node.created_at),
            hostname: description.hostname,
            role: words::role(spec.role),
            availability: words::availability(spec.availability),
            labels: spec.labels.into_iter().collect(),
            status: Status {
                state: words::node_state(status.state),
                since: time::rfc3339(status.since),
                message: status.message,
                address: status.address,
            },
            platform: Platform { os: platform.os, architecture: platform.architecture },
            resources: Resources { nano_cpus: resources.nano_cpus, memory_bytes: resources.memory_bytes },
            generic_resources: description
                .generic
                .into_iter()
                .map(|(kind, held)| (kind, held.into()))
                .collect(),
            engine_version: description.engine_version,
            engine_labels: description.labels.into_iter().collect(),
            manager: node.manager.map(|manager| Manager {
                raft_id: manager.raft_id,
                address: manager.address,
                leader: item.leader,
                reachable: item.reachable,
                voter: item.voter,
            }),
            is_self: item.self_,
        }
    }
}
