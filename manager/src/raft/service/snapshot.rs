//! Receiving a snapshot: sealed into a file piece by piece, and installed when it is complete.

use std::io::{self, Write as _};
use std::sync::Arc;

use coracle_proto::v1;
use coracle_proto::v1::raft_install_snapshot_request::{Header, Part};
use openraft::AsyncRuntime as _;
use tonic::{Status, Streaming};

use super::{RaftService, stopped};
use crate::raft::platform::Platform;
use crate::raft::settings::{SNAPSHOT_CHUNK, STALL};
use crate::raft::snapshot::{SnapshotStore, SnapshotWriter};
use crate::raft::types::{Snapshot, Vote};
use crate::raft::wire::{self, Malformed};

impl<P: Platform> RaftService<P> {
    pub(super) async fn receive_snapshot(
        &self,
        mut parts: Streaming<v1::RaftInstallSnapshotRequest>,
    ) -> Result<Vote, Status> {
        let Some(Part::Header(Header { addressee, vote, meta })) = next::<P>(&mut parts).await? else {
            return Err(Malformed("a snapshot must begin with its header").into());
        };
        self.check(addressee.as_ref())?;
        let vote = wire::needed_vote(vote)?;
        let meta = wire::snapshot_meta_from_wire(meta.ok_or(Malformed("the snapshot's meta is missing"))?)?;
        let _receiving = self
            .receiving
            .try_lock()
            .map_err(|_| Status::unavailable("another snapshot is being received; try again later"))?;

        let (name, writer) = self.snapshots.begin(&meta).map_err(|error| disk(&error))?;
        let leftover = Unfinished(Some((self.snapshots.clone(), name.clone())));
        receive_chunks::<P>(&mut parts, writer).await?;
        leftover.keep();
        let snapshot = Snapshot { meta, snapshot: self.snapshots.finished(name) };
        let response =
            self.raft.install_full_snapshot(vote, snapshot).await.map_err(|fatal| stopped(&fatal))?;
        Ok(response.vote)
    }
}

fn disk(error: &io::Error) -> Status {
    Status::internal(format!("writing the snapshot failed: {error}"))
}

async fn next<P: Platform>(
    parts: &mut Streaming<v1::RaftInstallSnapshotRequest>,
) -> Result<Option<Part>, Status> {
    let message = P::Runtime::timeout(STALL, parts.message())
        .await
        .map_err(|_| Status::deadline_exceeded("the snapshot's sender fell silent"))??;
    Ok(message.and_then(|message| message.part))
}

/// Writes the pieces as they come, and the end when all are there.
async fn receive_chunks<P: Platform>(
    parts: &mut Streaming<v1::RaftInstallSnapshotRequest>,
    mut writer: SnapshotWriter,
) -> Result<(), Status> {
    let mut length = 0;
    loop {
        match next::<P>(parts).await? {
            Some(Part::Chunk(chunk)) if chunk.data.len() <= SNAPSHOT_CHUNK => {
                if crc32c::crc32c(&chunk.data) != chunk.checksum {
                    return Err(Status::data_loss("a piece of the snapshot does not fit its checksum"));
                }
                length += chunk.data.len() as u64;
                writer = on_disk::<P, _>(move || writer.write_all(&chunk.data).map(|()| writer)).await?;
            }
            Some(Part::End(end)) if end.length == length => break,
            _ => return Err(Malformed("the snapshot's parts are not in order").into()),
        }
    }
    on_disk::<P, _>(move || writer.finish()).await?;
    Ok(())
}

async fn on_disk<P: Platform, T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Status> {
    P::blocking(work).await.flatten().map_err(|error| disk(&error))
}

/// Removes a half-received file.
struct Unfinished(Option<(Arc<SnapshotStore>, String)>);

impl Unfinished {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some((snapshots, name)) = self.0.take() {
            snapshots.discard(&name);
        }
    }
}
