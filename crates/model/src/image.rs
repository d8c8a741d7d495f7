//! Images as the cluster knows them: names that resolve to digests.

use crate::digest::Digest;
use crate::node::Platform;
use crate::time::Timestamp;
use crate::version::Version;

/// One row of the replicated image table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageEntry {
    /// Full name with tag, e.g. `docker.io/library/web:1`.
    pub name: String,
    /// Last write to this row.
    pub version: Version,
    /// Digest of the manifest.
    pub digest: Digest,
    /// Bytes of its blobs.
    pub size: u64,
    /// What it runs on.
    pub platform: Platform,
    /// When the name was last set.
    pub created_at: Timestamp,
}
