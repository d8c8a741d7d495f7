//! Receiving a snapshot: sealed into a file piece by piece, and installed when it is complete.

use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use coracle_proto::v1;
use coracle_proto::v1::raft_install_snapshot_request::{Header, Part};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::{RaftService, stopped};
use crate::raft::settings::{SNAPSHOT_CHUNK, STALL};
use crate::raft::snapshot::{SnapshotStore, SnapshotWriter};
use crate::raft::types::{Snapshot, Vote};
use crate::raft::wire::{self, Malformed};

/// Pieces received ahead of the disk.
const AHEAD: usize = 2;

impl RaftService {
    pub(super) async fn receive_snapshot(
        &self,
        mut parts: Streaming<v1::RaftInstallSnapshotRequest>,
    ) -> Result<Vote, Status> {
        let Some(Part::Header(Header { addressee, vote, meta })) = next(&mut parts).await? else {
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
        let (sender, receiver) = mpsc::channel(AHEAD);
        let writing = tokio::task::spawn_blocking(move || write_chunks(writer, receiver));
        let received = receive_chunks(&mut parts, sender).await;
        let written = writing.await.map_err(|error| Status::internal(error.to_string()))?;
        // The disk first: when it fails, receiving fails too, with less to say.
        let written = written.map_err(|error| disk(&error))?;
        if written != received? {
            return Err(Status::internal("the snapshot was not written whole"));
        }
        leftover.keep();
        let snapshot = Snapshot { meta, snapshot: self.snapshots.finished(name) };
        let response =
            self.raft.install_full_snapshot(vote, snapshot).await.map_err(|fatal| stopped(&fatal))?;
        Ok(response.vote)
    }
}

fn disk(error: &std::io::Error) -> Status {
    Status::internal(format!("writing the snapshot failed: {error}"))
}

async fn next(parts: &mut Streaming<v1::RaftInstallSnapshotRequest>) -> Result<Option<Part>, Status> {
    let message = tokio::time::timeout(STALL, parts.message())
        .await
        .map_err(|_| Status::deadline_exceeded("the snapshot's sender fell silent"))??;
    Ok(message.and_then(|message| message.part))
}

/// Hands the pieces on to the writer; returns their length together.
async fn receive_chunks(
    parts: &mut Streaming<v1::RaftInstallSnapshotRequest>,
    sender: mpsc::Sender<Bytes>,
) -> Result<u64, Status> {
    let mut length = 0;
    loop {
        match next(parts).await? {
            Some(Part::Chunk(chunk)) if chunk.data.len() <= SNAPSHOT_CHUNK => {
                if crc32c::crc32c(&chunk.data) != chunk.checksum {
                    return Err(Status::data_loss("a piece of the snapshot does not fit its checksum"));
                }
                length += chunk.data.len() as u64;
                sender.send(chunk.data).await.map_err(|_| Status::internal("writing the snapshot failed"))?;
            }
            Some(Part::End(end)) if end.length == length => return Ok(length),
            _ => return Err(Malformed("the snapshot's parts are not in order").into()),
        }
    }
}

/// Writes until the sender is gone. A file that was cut short is complete in form; its length gives it away.
fn write_chunks(mut writer: SnapshotWriter, mut chunks: mpsc::Receiver<Bytes>) -> std::io::Result<u64> {
    while let Some(chunk) = chunks.blocking_recv() {
        writer.write_all(&chunk)?;
    }
    writer.finish()
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
