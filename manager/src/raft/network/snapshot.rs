//! Sending a snapshot: read from its file in pieces, never held whole.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use coracle_proto::v1;
use coracle_proto::v1::raft_install_snapshot_request::{Chunk, End, Header, Part};
use openraft::async_runtime::Select2;
use openraft::error::StreamingError;
use openraft::network::RPCOption;
use openraft::raft::SnapshotResponse;
use openraft::{AsyncRuntime as _, ErrorSubject, ErrorVerb, RPCTypes, StorageError};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{Lane, Peer};
use crate::raft::platform::Platform;
use crate::raft::settings::STALL;
use crate::raft::snapshot::{SnapshotFile, SnapshotStore};
use crate::raft::types::{Snapshot, TypeConfig, Vote};
use crate::raft::wire;

/// Pieces read ahead of the network.
const AHEAD: usize = 2;

impl<P: Platform> Peer<P> {
    pub(super) async fn send_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig<P>>, StreamingError<TypeConfig<P>>> {
        let mut client = self.client(Lane::Snapshot)?;
        let header = Header {
            addressee: Some(self.addressee()),
            vote: Some(wire::vote_to_wire(&vote)),
            meta: Some(wire::snapshot_meta_to_wire(&snapshot.meta)),
        };
        let snapshots = self.peers.snapshots.clone();
        let (sender, receiver) = mpsc::channel(AHEAD);
        let progress = Arc::new(AtomicU64::new(0));
        let reading = P::Runtime::spawn({
            let progress = progress.clone();
            async move { send_parts::<P>(snapshots, snapshot.snapshot, header, &sender, &progress).await }
        });

        let call = client.install_snapshot(ReceiverStream::new(receiver));
        let response = match P::Runtime::select2(call, stalled::<P>(&progress, option.hard_ttl())).await {
            Select2::First(response) => response.map_err(|status| self.failed(&status)),
            Select2::Second(()) => Err(self.timeout(RPCTypes::InstallSnapshot, STALL).into()),
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
async fn stalled<P: Platform>(progress: &AtomicU64, install: Duration) {
    let mut before = 0;
    loop {
        P::Runtime::sleep(STALL).await;
        let now = progress.load(Ordering::Relaxed);
        if now == ALL_SENT {
            P::Runtime::sleep(install.saturating_sub(STALL)).await;
            return;
        }
        if now == before {
            return;
        }
        before = now;
    }
}

/// Reads piece by piece, so that no thread is held while the network takes its time.
async fn send_parts<P: Platform>(
    snapshots: Arc<SnapshotStore>,
    file: SnapshotFile,
    header: Header,
    sender: &mpsc::Sender<v1::RaftInstallSnapshotRequest>,
    progress: &AtomicU64,
) -> io::Result<()> {
    let send = async |part| {
        sender
            .send(v1::RaftInstallSnapshotRequest { part: Some(part) })
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        progress.fetch_add(1, Ordering::Relaxed);
        Ok::<_, io::Error>(())
    };
    let mut reader = P::blocking(move || snapshots.reader(&file)).await??;
    send(Part::Header(header)).await?;
    let mut length = 0;
    loop {
        let (returned, chunk) = P::blocking(move || {
            let chunk = reader.next_chunk();
            (reader, chunk)
        })
        .await?;
        reader = returned;
        let Some(data) = chunk? else { break };
        length += data.len() as u64;
        let checksum = crc32c::crc32c(&data);
        send(Part::Chunk(Chunk { data: data.into(), checksum })).await?;
    }
    send(Part::End(End { length })).await?;
    progress.store(ALL_SENT, Ordering::Relaxed);
    Ok(())
}
