//! Named local volumes: folders that a node keeps for tasks, beyond the life of any of them.

use std::collections::BTreeMap;

use crate::id::NodeId;
use crate::time::Timestamp;

/// Name of the only driver.
pub const LOCAL_DRIVER: &str = "local";

/// A named volume on one node, as its agent tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name, unique on its node.
    pub name: String,
    /// Where it is.
    pub node: NodeId,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// There are labels, too many of them for a list.
    pub labels_omitted: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// Tasks whose containers mount it.
    pub used_by: u32,
    /// Made without a name.
    pub anonymous: bool,
}

/// Whether the text may name a volume: letters, digits, `_`, `.` and `-`, beginning with a letter or a digit (Docker's rule), at
/// most 255 bytes.
#[must_use]
pub fn is_volume_name(text: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    text.len() <= 255
        && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && text.bytes().all(inside)
}
