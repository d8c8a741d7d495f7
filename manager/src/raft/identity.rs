//! To whom a Raft directory belongs. A directory never changes its Raft id, and a log that is gone is never replaced by an
//! empty one: a manager that forgot its votes could elect two leaders.

use std::path::Path;

use coracle_proto::v1::RaftIdentity;
use coracle_seal::{KeyRing, SealError, read_sealed_file, write_sealed_file};
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

/// Checks that `directory` is this manager's. Returns whether it was used before.
pub(crate) fn check(ring: &KeyRing, directory: &Path, wanted: &Identity) -> Result<bool, RaftStartError> {
    let path = directory.join(FILE_NAME);
    let bytes = match read_sealed_file(ring, &path, ASSOCIATED) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let damaged =
        |_| RaftStartError::Seal(SealError::DamagedFile { path: path.clone(), what: "it is no identity" });
    let stored = RaftIdentity::decode(bytes.as_slice()).map_err(damaged)?;
    let found = Identity { cluster_id: stored.cluster_id, raft_id: stored.raft_id };
    if found == *wanted {
        return Ok(true);
    }
    Err(RaftStartError::OtherIdentity {
        path: directory.to_owned(),
        found: found.describe(),
        wanted: wanted.describe(),
    })
}

/// Makes `directory` this manager's, durably.
pub(crate) fn claim(ring: &KeyRing, directory: &Path, identity: &Identity) -> Result<(), RaftStartError> {
    let stored = RaftIdentity { cluster_id: identity.cluster_id.clone(), raft_id: identity.raft_id };
    write_sealed_file(ring, &directory.join(FILE_NAME), ASSOCIATED, &stored.encode_to_vec())?;
    Ok(())
}
