//! Changes of the cluster object.

use std::sync::Arc;

use coracle_model::cluster::Cluster;
use coracle_model::version::Version;

use super::{Applied, Writing, check_version, not_found};
use crate::outcome::{Refusal, RefusalKind};

impl Writing {
    pub(super) fn create_cluster(&mut self, cluster: &Cluster) -> Applied {
        if let Some(present) = self.state.cluster() {
            return Err(Refusal::new(
                RefusalKind::Exists,
                format!("the cluster {} exists already", present.id),
            ));
        }
        self.write_cluster(Cluster { created_at: self.time, ..cluster.clone() });
        Ok(())
    }

    pub(super) fn update_cluster(&mut self, cluster: &Cluster, expected: Version) -> Applied {
        let present = self.state.cluster().ok_or_else(|| not_found("cluster", cluster.id))?;
        check_version("cluster", present.id, present.version, expected)?;
        let forbidden = |what: String| Err(Refusal::new(RefusalKind::Forbidden, what));
        if cluster.id != present.id {
            return forbidden(format!("cluster: the id {} cannot become {}", present.id, cluster.id));
        }
        if cluster.feature_level < present.feature_level {
            return forbidden(format!(
                "feature level: {} cannot become {}: entries that need it may be in the log",
                present.feature_level, cluster.feature_level
            ));
        }
        if cluster.next_raft_id < present.next_raft_id {
            return forbidden(format!(
                "next raft id: {} cannot become {}: ids are never given twice",
                present.next_raft_id, cluster.next_raft_id
            ));
        }
        let created_at = present.created_at;
        self.write_cluster(Cluster { created_at, ..cluster.clone() });
        Ok(())
    }

    fn write_cluster(&mut self, cluster: Cluster) {
        self.state.put_cluster(Arc::new(Cluster { version: self.version, ..cluster }));
        self.touched.cluster = true;
    }
}
