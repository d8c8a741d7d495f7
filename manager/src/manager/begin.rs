//! How a manager begins: the first entries of a cluster, and the Raft id that it has for good.

use std::path::{Path, PathBuf};

use coracle_daemon::ErrorChain;
use coracle_manager_core::Change;
use coracle_model::cluster::Cluster;
use coracle_model::node::{ManagerMember, Node};
use coracle_proto::status::{ApiError, Reason};
use coracle_seal::{read_sealed_file, write_sealed_file};

use super::ManagerConfig;
use crate::store::{READ_DEADLINE, Store, Write, now, raft_error};

/// The Raft id of a cluster's first manager.
pub(super) const FIRST_RAFT_ID: u64 = 1;

/// Makes the first entries of a cluster, unless an earlier start got that far.
///
/// # Errors
/// If Raft cannot begin, or the disk refuses.
pub(super) async fn bootstrap(
    store: &Store,
    cluster: Cluster,
    node: Node,
    address: &str,
) -> Result<(), ApiError> {
    let raft = store.raft();
    raft.initialize(address).await.map_err(raft_error)?;
    raft.read_barrier(READ_DEADLINE).await.map_err(raft_error)?;
    if store.view().cluster().is_some() {
        return Ok(());
    }
    let id = node.id;
    let member = ManagerMember { raft_id: FIRST_RAFT_ID, address: address.to_owned() };
    let changes = vec![
        Change::CreateCluster(Cluster { created_at: now(), next_raft_id: FIRST_RAFT_ID + 1, ..cluster }),
        Change::CreateNode(node),
        Change::SetManagerMember { node: id, member: Some(member) },
    ];
    store.propose(Write::internal("swarm init", changes)).await?;
    Ok(())
}

const RAFT_ID_FILE: &str = "member";

/// Where a manager keeps its Raft id.
pub(super) fn raft_id_file(directory: &Path) -> PathBuf {
    directory.join(RAFT_ID_FILE)
}

/// The Raft id that this manager was given; nothing if it has none yet.
///
/// # Errors
/// If the file is damaged, or the disk refuses.
pub(super) fn known_raft_id(config: &ManagerConfig) -> Result<Option<u64>, ApiError> {
    let path = raft_id_file(&config.directory);
    match read_sealed_file(&config.keyring, &path, RAFT_ID_FILE.as_bytes()) {
        Ok(bytes) => {
            let bytes = bytes.try_into().map_err(|_| {
                ApiError::new(
                    Reason::Internal,
                    format!("{} is damaged: restore it from a backup", path.display()),
                )
            })?;
            Ok(Some(u64::from_be_bytes(bytes)))
        }
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(ApiError::new(Reason::Internal, ErrorChain(&error).to_string())),
    }
}

/// Writes down the Raft id before it is used: one that is forgotten would be in Raft with nobody behind it.
///
/// # Errors
/// If the disk refuses.
pub(super) fn remember_raft_id(config: &ManagerConfig, raft_id: u64) -> Result<u64, ApiError> {
    let internal = |error: String| ApiError::new(Reason::Internal, error);
    std::fs::create_dir_all(&config.directory)
        .map_err(|error| internal(format!("creating {}: {error}", config.directory.display())))?;
    let path = raft_id_file(&config.directory);
    write_sealed_file(&config.keyring, &path, RAFT_ID_FILE.as_bytes(), &raft_id.to_be_bytes())
        .map_err(|error| internal(ErrorChain(&error).to_string()))?;
    Ok(raft_id)
}
