//! To whom a Raft directory belongs. A directory never changes its Raft id, and a log that is gone is never replaced by an
//! empty one: a manager that forgot its votes could elect two leaders.

use coracle_disk::Storage;
use coracle_proto::v1::RaftIdentity;
use coracle_seal::{KeyRing, SealError, read_sealed, write_sealed};
use prost::Message as _;

use super::error::RaftStartError;

const FILE_NAME: &str = "identity";
const ASSOCIATED: &[u8] = b"coracle raft identity 1";

/// Who this manager is to the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) cluster_id: String,
    pub(crate) raft_id: u64,
}

impl Identity {
    fn describe(&self) -> String {
        format!("{} of cluster {}", self.raft_id, self.cluster_id)
    }
}

/// Checks that `root` is this manager's. Returns whether it was used before.
pub(crate) fn check(ring: &KeyRing, root: &dyn Storage, wanted: &Identity) -> Result<bool, RaftStartError> {
    let bytes = match read_sealed(ring, root, FILE_NAME, ASSOCIATED) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let path = root.path().join(FILE_NAME);
    let damaged = |_| RaftStartError::Seal(SealError::DamagedFile { path, what: "it is no identity" });
    let stored = RaftIdentity::decode(bytes.as_slice()).map_err(damaged)?;
    let found = Identity { cluster_id: stored.cluster_id, raft_id: stored.raft_id };
    if found == *wanted {
        return Ok(true);
    }
    Err(RaftStartError::OtherIdentity {
        path: root.path().to_owned(),
        found: found.describe(),
        wanted: wanted.describe(),
    })
}

/// Makes `root` this manager's, durably.
pub(crate) fn claim(ring: &KeyRing, root: &dyn Storage, identity: &Identity) -> Result<(), RaftStartError> {
    let stored = RaftIdentity { cluster_id: identity.cluster_id.clone(), raft_id: identity.raft_id };
    write_sealed(ring, root, FILE_NAME, ASSOCIATED, &stored.encode_to_vec())?;
    Ok(())
}
