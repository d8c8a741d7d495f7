//! The cluster object: what all managers share besides services and nodes.

use std::fmt;
use std::time::Duration;

use crate::id::ClusterId;
use crate::time::Timestamp;
use crate::version::Version;

/// The one cluster object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Who it is; the organisation in every certificate.
    pub id: ClusterId,
    /// Last write to this object.
    pub version: Version,
    /// When it was made.
    pub created_at: Timestamp,
    /// What every manager of a mixed fleet understands; raised when all do.
    pub feature_level: u32,
    /// The root of trust, PEM.
    pub root_certificate: String,
    /// Key of the root, PKCS #8 PEM.
    pub root_key: Secret,
    /// Secret part of the workers' join token: 16 bytes.
    pub worker_token: Secret,
    /// Secret part of the managers' join token: 16 bytes.
    pub manager_token: Secret,
    /// Key that signs image tickets, PKCS #8 DER.
    pub ticket_key: Secret,
    /// Next Raft id to give; ids are never given twice.
    pub next_raft_id: u64,
    /// What operators can tune.
    pub spec: ClusterSpec,
}

/// What operators can tune.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSpec {
    /// Tasks kept per slot (per node for global services), the live one included; negative keeps all.
    pub task_history_limit: i32,
    /// Least period of agents' heartbeats.
    pub heartbeat_period: Duration,
    /// How long a node may be gone before its tasks are replaced, once its connection is closed.
    pub node_grace: Duration,
    /// Life of node certificates.
    pub certificate_validity: Duration,
    /// Services may ask for privileged containers.
    pub allow_privileged: bool,
}

impl Default for ClusterSpec {
    fn default() -> Self {
        Self {
            task_history_limit: 5,
            heartbeat_period: Duration::from_millis(1500),
            node_grace: Duration::from_secs(3),
            certificate_validity: Duration::from_secs(30 * 24 * 3600),
            allow_privileged: false,
        }
    }
}

/// Bytes that no message, log or listing shows.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes the bytes.
    #[must_use]
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes: every caller of this is a place to look at in a review.
    #[must_use]
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}
