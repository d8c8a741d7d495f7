//! Sending a snapshot: read from its file in pieces, never held whole.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use coracle_proto::v1;
use coracle_proto::v1::raft_install_snapshot_request::{Chunk, End, Header, Part};
use openraft::error::StreamingError;
use openraft::network::RPCOption;
use openraft::raft::SnapshotResponse;
use openraft::{ErrorSubject, ErrorVerb, RPCTypes, StorageError};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{Lane, Peer};
use crate::raft::settings::STALL;
use crate::raft::snapshot::SnapshotReader;
use crate::raft::types::{Snapshot, TypeConfig, Vote};
use crate::raft::wire;

/// Pieces read ahead of the network.
const AHEAD: usize = 2;

impl Peer {
    pub(super) async fn send_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let mut client = self.client(Lane::Snapshot)?;
        let header = Header {
            addressee: Some(self.addressee()),
            vote: Some(wire::vote_to_wire(&vote)),
            meta: Some(wire::snapshot_meta_to_wire(&snapshot.meta)),
        };
        let snapshots = self.peers.snapshots.clone();
        let (sender, receiver) = mpsc::channel(AHEAD);
        let progress = Arc::new(AtomicU64::new(0));
        let reading = tokio::task::spawn_blocking({
            let progress = progress.clone();
            move || send_parts(snapshots.reader(&snapshot.snapshot)?, header, &sender, &progress)
        });

        let call = client.install_snapshot(ReceiverStream::new(receiver));
        let response = tokio::select! {
            response = call => response.map_err(|status| self.failed(&status)),
            () = stalled(&progress, option.hard_ttl()) => {
                Err(self.timeout(RPCTypes::InstallSnapshot, STALL).into())
            }
        };
        match response {
            Ok(response) => {
                let vote =
                    wire::needed_vote(response.into_inner().vote).map_err(|error| self.malformed(error))?;
                Ok(SnapshotResponse::new(vote))
            }
            Err(error) => {
                // A file that cannot be read is a matter of storage, not of the network: Raft has to stop.
                if let Ok(Err(error)) = reading.await
                    && error.kind() != io::ErrorKind::BrokenPipe
                {
                    return Err(StorageError::from_io_error(
                        ErrorSubject::Snapshot(None),
                        ErrorVerb::Read,
                        error,
                    )
                    .into());
                }
                Err(error.into())
            }
        }
    }
}

/// Set in the progress counter once all parts are sent.
const ALL_SENT: u64 = u64::MAX;

/// Resolves when no part was taken for [`STALL`], or when the peer needs longer than `install` after the last.
async fn stalled(progress: &AtomicU64, install: Duration) {
    let mut before = 0;
    loop {
        tokio::time::sleep(STALL).await;
        let now = progress.load(Ordering::Relaxed);
        if now == ALL_SENT {
            tokio::time::sleep(install.saturating_sub(STALL)).await;
            return;
        }
        if now == before {
            return;
        }
        before = now;
    }
}

fn send_parts(
    mut reader: SnapshotReader,
    header: Header,
    sender: &mpsc::Sender<v1::RaftInstallSnapshotRequest>,
    progress: &AtomicU64,
) -> io::Result<()> {
    let send = |part| {
        sender
            .blocking_send(v1::RaftInstallSnapshotRequest { part: Some(part) })
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        progress.fetch_add(1, Ordering::Relaxed);
        Ok::<_, io::Error>(())
    };
    send(Part::Header(header))?;
    let mut length = 0;
    while let Some(data) = reader.next_chunk()? {
        length += data.len() as u64;
        let checksum = crc32c::crc32c(&data);
        send(Part::Chunk(Chunk { data: data.into(), checksum }))?;
    }
    send(Part::End(End { length }))?;
    progress.store(ALL_SENT, Ordering::Relaxed);
    Ok(())
}
