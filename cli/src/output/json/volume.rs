//! Volumes.

use std::collections::BTreeMap;

use coracle_model::volume::LOCAL_DRIVER;
use coracle_proto::v1;
use serde::Serialize;

use crate::output::time;

/// One line of `volume ls`.
#[derive(Debug, Serialize)]
pub(crate) struct Volume {
    name: String,
    node: Node,
    driver: &'static str,
    labels: BTreeMap<String, String>,
    /// There are labels, too many of them for a list.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    labels_omitted: bool,
    created_at: Option<String>,
    anonymous: bool,
    /// Tasks whose containers mount it.
    used_by: u32,
}

#[derive(Debug, Serialize)]
struct Node {
    id: String,
    hostname: String,
}

/// One volume of `volume inspect`.
#[derive(Debug, Serialize)]
pub(crate) struct VolumeDetail {
    #[serde(flatten)]
    volume: Volume,
    mountpoint: String,
    size_bytes: Option<u64>,
    inodes: Option<u64>,
    /// Why there is no size.
    #[serde(skip_serializing_if = "Option::is_none")]
    size_unknown: Option<String>,
    tasks: Vec<Task>,
}

#[derive(Debug, Serialize)]
struct Task {
    id: String,
    name: String,
}

impl From<v1::NodeVolume> for Volume {
    fn from(item: v1::NodeVolume) -> Self {
        let volume = item.volume.unwrap_or_default();
        Self {
            name: volume.name,
            node: Node { id: item.node_id, hostname: item.node_hostname },
            driver: LOCAL_DRIVER,
            labels: volume.labels.into_iter().collect(),
            labels_omitted: volume.labels_omitted,
            created_at: time::rfc3339(volume.created_at),
            anonymous: volume.anonymous,
            used_by: volume.used_by,
        }
    }
}

impl From<v1::InspectedVolume> for VolumeDetail {
    fn from(inspected: v1::InspectedVolume) -> Self {
        let v1::InspectedVolume { node_id, node_hostname, detail, users } = inspected;
        let detail = detail.unwrap_or_default();
        let task = |user: v1::VolumeUser| Task { id: user.task, name: user.name };
        Self {
            volume: v1::NodeVolume { node_id, node_hostname, volume: detail.volume }.into(),
            mountpoint: detail.mountpoint,
            size_bytes: detail.size,
            inodes: detail.inodes,
            size_unknown: Some(detail.size_unknown).filter(|why| !why.is_empty()),
            tasks: users.into_iter().map(task).collect(),
        }
    }
}
