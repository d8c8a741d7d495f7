//! The cluster object: what operators can tune, and what is stored with it.

use coracle_model::cluster::{Cluster, ClusterSpec, Secret};
use coracle_model::version::Version;

use super::{DecodeError, duration, nanos, parse, required, timestamp};
use crate::v1;

impl From<&ClusterSpec> for v1::ClusterSpec {
    fn from(spec: &ClusterSpec) -> Self {
        Self {
            task_history_limit: spec.task_history_limit,
            heartbeat_period: nanos(spec.heartbeat_period),
            node_grace: nanos(spec.node_grace),
            certificate_validity: nanos(spec.certificate_validity),
            allow_privileged: spec.allow_privileged,
        }
    }
}

impl From<v1::ClusterSpec> for ClusterSpec {
    fn from(message: v1::ClusterSpec) -> Self {
        Self {
            task_history_limit: message.task_history_limit,
            heartbeat_period: duration(message.heartbeat_period),
            node_grace: duration(message.node_grace),
            certificate_validity: duration(message.certificate_validity),
            allow_privileged: message.allow_privileged,
        }
    }
}

impl From<&Cluster> for v1::StoredCluster {
    fn from(cluster: &Cluster) -> Self {
        Self {
            id: cluster.id.to_string(),
            version: cluster.version.index(),
            created_at: cluster.created_at.as_nanos(),
            feature_level: cluster.feature_level,
            root_certificate: cluster.root_certificate.clone(),
            root_key: cluster.root_key.reveal().to_vec().into(),
            worker_token: cluster.worker_token.reveal().to_vec().into(),
            manager_token: cluster.manager_token.reveal().to_vec().into(),
            ticket_key: cluster.ticket_key.reveal().to_vec().into(),
            next_raft_id: cluster.next_raft_id,
            spec: Some((&cluster.spec).into()),
        }
    }
}

impl TryFrom<v1::StoredCluster> for Cluster {
    type Error = DecodeError;

    fn try_from(message: v1::StoredCluster) -> Result<Self, DecodeError> {
        Ok(Self {
            id: parse("cluster", &message.id)?,
            version: Version::new(message.version),
            created_at: timestamp(message.created_at),
            feature_level: message.feature_level,
            root_certificate: message.root_certificate,
            root_key: Secret::new(message.root_key.into()),
            worker_token: Secret::new(message.worker_token.into()),
            manager_token: Secret::new(message.manager_token.into()),
            ticket_key: Secret::new(message.ticket_key.into()),
            next_raft_id: message.next_raft_id,
            spec: required("cluster spec", message.spec)?.into(),
        })
    }
}
