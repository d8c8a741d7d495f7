//! The node itself, its control loops and versions.

use coracle_proto::v1;
use serde::Serialize;

use crate::output::{time, words};

/// `system info`.
#[derive(Debug, Serialize)]
pub(crate) struct Info {
    version: String,
    state: String,
    node_id: String,
    cluster_id: String,
    role: &'static str,
    address: String,
    hostname: String,
    os: String,
    architecture: String,
    kernel: String,
    cgroup_version: String,
    nano_cpus: u64,
    memory_bytes: u64,
    data_directory: String,
    run_directory: String,
    containers_running: u32,
    managers: Vec<String>,
    session_with: String,
    certificate_expires_at: Option<String>,
    raft: Option<Raft>,
    warnings: Vec<String>,
}

/// A manager's place in Raft.
#[derive(Debug, Serialize)]
pub(crate) struct Raft {
    raft_id: u64,
    term: u64,
    is_leader: bool,
    leader_raft_id: u64,
    leader_address: String,
    last_applied: u64,
    voters: u32,
}

/// One line of `system loops`.
#[derive(Debug, Serialize)]
pub(crate) struct Loop {
    name: String,
    runs: u64,
    changes: u64,
    refused: u64,
    queued: u64,
    last_run: Option<String>,
}

/// `version`.
#[derive(Debug, Serialize)]
pub(crate) struct Version {
    /// Of this program.
    pub client: String,
    /// Of the daemon that answered.
    pub server: Option<String>,
}

impl From<v1::InfoResponse> for Info {
    fn from(info: v1::InfoResponse) -> Self {
        let platform = info.platform.unwrap_or_default();
        let resources = info.resources.unwrap_or_default();
        Self {
            version: info.version,
            state: info.state,
            node_id: info.node_id,
            cluster_id: info.cluster_id,
            role: words::role(info.role),
            address: info.address,
            hostname: info.hostname,
            os: platform.os,
            architecture: platform.architecture,
            kernel: info.kernel,
            cgroup_version: info.cgroup_version,
            nano_cpus: resources.nano_cpus,
            memory_bytes: resources.memory_bytes,
            data_directory: info.data_directory,
            run_directory: info.run_directory,
            containers_running: info.containers_running,
            managers: info.managers,
            session_with: info.session_with,
            certificate_expires_at: time::rfc3339(info.certificate_expires_at),
            raft: info.raft.map(Into::into),
            warnings: info.warnings,
        }
    }
}

impl From<v1::RaftInfo> for Raft {
    fn from(raft: v1::RaftInfo) -> Self {
        Self {
            raft_id: raft.raft_id,
            term: raft.term,
            is_leader: raft.is_leader,
            leader_raft_id: raft.leader_raft_id,
            leader_address: raft.leader_address,
            last_applied: raft.last_applied,
            voters: raft.voters,
        }
    }
}

impl From<v1::LoopStatus> for Loop {
    fn from(status: v1::LoopStatus) -> Self {
        Self {
            name: status.name,
            runs: status.runs,
            changes: status.changes,
            refused: status.refused,
            queued: status.queued,
            last_run: time::rfc3339(status.last_run),
        }
    }
}
