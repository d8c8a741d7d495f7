//! Archives between the disk and a manager, each on a connection of its own: what a slow side holds up is not the session.

use std::io::{self, Read, Write};
use std::sync::Arc;

use bytes::{Buf as _, Bytes, BytesMut};
use coracle_daemon::ErrorChain;
use coracle_image::tree::TreeReport;
use coracle_pki::tls::{ExpectedServer, client_config};
use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1;
use coracle_proto::v1::dispatcher_client::DispatcherClient;
use coracle_proto::v1::volume_chunk::Part;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::Channel;
use tracing::{debug, info, warn};

use super::problem::problem;
use super::{Manager, message};
use crate::task::runner::blocking;
use crate::volume::{VolumeError, VolumeStore};

/// Pieces between the disk and the network.
const PIECES: usize = 4;
/// Bytes of one piece.
const PIECE: usize = 256 << 10;

async fn connect(manager: &Manager) -> Result<DispatcherClient<Channel>, v1::VolumeProblem> {
    let unusable = |reason: String| {
        v1::VolumeProblem::from(ApiError::new(
            Reason::Unavailable,
            format!("no connection to the manager: {reason}"),
        ))
    };
    let tls = client_config(&manager.identity, ExpectedServer::AnyManager)
        .map_err(|error| unusable(ErrorChain(&error).to_string()))?;
    let channel = coracle_rpc::connect::channel(&manager.address, Arc::new(tls)).await;
    channel.map(DispatcherClient::new).map_err(|error| unusable(ErrorChain(&error).to_string()))
}

fn chunk(part: Part) -> v1::VolumeChunk {
    v1::VolumeChunk { id: String::new(), part: Some(part) }
}

/// Sends the archive of a volume. A problem is only returned when it could not be told on the way.
pub(super) async fn publish(
    store: &VolumeStore,
    manager: &Manager,
    id: &str,
    name: String,
    stop: &CancellationToken,
) -> Option<v1::VolumeProblem> {
    let mut client = match connect(manager).await {
        Ok(client) => client,
        Err(problem) => return Some(problem),
    };
    let stop = stop.child_token();
    // Ends the reading also when this is dropped.
    let _ended = stop.clone().drop_guard();
    let (sender, chunks) = mpsc::channel(PIECES);
    // There is room for the first message.
    let _ = sender.try_send(v1::VolumeChunk { id: id.to_owned(), part: None });
    let (store, volume) = (store.clone(), name.clone());
    let packing = blocking(move || pack(&store, &volume, sender, &stop));
    let published = client.publish_volume(ReceiverStream::new(chunks));
    let (_, published) = tokio::join!(packing, published);
    match published {
        Ok(_) => info!(volume = %name, "an archive of the volume was sent"),
        Err(status) => debug!(volume = %name, status = status.message(), "the archive is no longer wanted"),
    }
    None
}

/// Reads the volume and sends what comes of it. Ends early when nobody receives any more.
fn pack(store: &VolumeStore, name: &str, chunks: mpsc::Sender<v1::VolumeChunk>, stop: &CancellationToken) {
    let mut sink = Sink { chunks, piece: BytesMut::with_capacity(PIECE), bytes: 0 };
    let packed = store.back_up(name, &mut sink, stop);
    let part = match packed {
        Ok(report) if sink.send().is_ok() => {
            Part::End(v1::VolumeEnd { bytes: sink.bytes, changed: report.changed, left_out: report.left_out })
        }
        // Nobody is there to be told.
        Ok(_) => return,
        Err(error) => Part::Problem(problem(&error)),
    };
    let _ = sink.chunks.blocking_send(chunk(part));
}

/// Puts what is written together into pieces.
struct Sink {
    chunks: mpsc::Sender<v1::VolumeChunk>,
    piece: BytesMut,
    bytes: u64,
}

impl Sink {
    fn send(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, BytesMut::with_capacity(PIECE)).freeze();
        self.bytes += piece.len() as u64;
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody takes the archive any more");
        self.chunks.blocking_send(chunk(Part::Data(piece))).map_err(gone)
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..count]);
        if self.piece.len() == PIECE {
            self.send()?;
        }
        Ok(count)
    }

    /// The end of the archive sends what is left.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What arrives of an archive.
enum Piece {
    Data(Bytes),
    End,
    Broken(String),
}

/// Makes a volume of the archive that the manager has for this request.
pub(super) async fn take(
    store: &VolumeStore,
    manager: &Manager,
    id: &str,
    write: v1::WriteVolume,
) -> Result<v1::VolumeWritten, v1::VolumeProblem> {
    let mut client = connect(manager).await?;
    let request = v1::FetchVolumeRequest { id: id.to_owned() };
    let chunks = match client.fetch_volume(request).await {
        Ok(chunks) => chunks.into_inner(),
        Err(status) => return Err(ApiError::from_status(&status).into()),
    };
    let (sender, pieces) = mpsc::channel(PIECES);
    let (store, name) = (store.clone(), write.name.clone());
    let restoring = blocking(move || restore(&store, write, pieces));
    let (restored, ()) = tokio::join!(restoring, pump(chunks, sender));
    // A panic in there was logged.
    restored.unwrap_or_else(|| Err(VolumeError::Stopped(String::new()))).map_err(|error| {
        // Whoever asked may be gone by now, or have been told of a connection that broke.
        if !matches!(error, VolumeError::Exists(_) | VolumeError::InUse { .. } | VolumeError::Name(_)) {
            warn!(volume = %name, error = %ErrorChain(&error), "a volume was not restored");
        }
        problem(&error)
    })
}

fn restore(
    store: &VolumeStore,
    write: v1::WriteVolume,
    pieces: mpsc::Receiver<Piece>,
) -> Result<v1::VolumeWritten, VolumeError> {
    let v1::WriteVolume { name, labels, replace } = write;
    let arriving = Arriving { pieces, piece: Bytes::new(), is_over: false };
    let report = store.restore(&name, &labels.into_iter().collect(), replace, arriving)?;
    info!(volume = %name, entries = report.entries, bytes = report.bytes, "the volume was restored");
    let volume = Some(message(&store.get(&name)?));
    let TreeReport { left_out, attributes_left_out, .. } = report;
    Ok(v1::VolumeWritten { volume, left_out, attributes_left_out })
}

/// Passes on what arrives until the end, or until nobody wants it.
async fn pump(mut chunks: Streaming<v1::VolumeChunk>, pieces: mpsc::Sender<Piece>) {
    let mut bytes = 0;
    loop {
        let piece = match chunks.message().await {
            Ok(Some(v1::VolumeChunk { part: Some(Part::Data(data)), .. })) => {
                bytes += data.len() as u64;
                Piece::Data(data)
            }
            Ok(Some(v1::VolumeChunk { part: Some(Part::End(end)), .. })) if end.bytes == bytes => Piece::End,
            Ok(Some(v1::VolumeChunk { part: Some(Part::End(end)), .. })) => {
                Piece::Broken(format!("{bytes} bytes arrived, {} were sent", end.bytes))
            }
            Ok(Some(_)) => {
                Piece::Broken("the manager says something that this version does not know".to_owned())
            }
            Ok(None) => Piece::Broken("it breaks off before its end".to_owned()),
            Err(status) => Piece::Broken(status.message().to_owned()),
        };
        let last = !matches!(piece, Piece::Data(_));
        if pieces.send(piece).await.is_err() || last {
            return;
        }
    }
}

/// An archive as it arrives, for a reader that blocks. Ends only with its end.
struct Arriving {
    pieces: mpsc::Receiver<Piece>,
    piece: Bytes,
    is_over: bool,
}

impl Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.is_over {
            let broken = |why: String| Err(io::Error::new(io::ErrorKind::ConnectionAborted, why));
            match self.pieces.blocking_recv() {
                Some(Piece::Data(data)) => self.piece = data,
                Some(Piece::End) => self.is_over = true,
                Some(Piece::Broken(why)) => return broken(why),
                None => return broken("the session ended".to_owned()),
            }
        }
        let count = self.piece.len().min(buffer.len());
        self.piece.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: Vec<Piece>) -> io::Result<String> {
        let (sender, receiver) = mpsc::channel(8);
        for piece in pieces {
            assert!(sender.try_send(piece).is_ok());
        }
        drop(sender);
        let mut text = String::new();
        Arriving { pieces: receiver, piece: Bytes::new(), is_over: false }
            .read_to_string(&mut text)
            .map(|_| text)
    }

    #[test]
    fn an_archive_is_whole_only_with_its_end() {
        let data = |text: &'static str| Piece::Data(Bytes::from_static(text.as_bytes()));
        assert_eq!(read(vec![data("ab"), data(""), data("c"), Piece::End]).unwrap(), "abc");
        assert_eq!(read(vec![data("ab")]).unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        assert_eq!(read(vec![]).unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        let broken = read(vec![data("ab"), Piece::Broken("why".to_owned())]).unwrap_err();
        assert_eq!(broken.to_string(), "why");
    }

    #[test]
    fn what_is_written_comes_in_whole_pieces_and_a_rest() {
        let (chunks, mut receiver) = mpsc::channel(8);
        let mut sink = Sink { chunks, piece: BytesMut::new(), bytes: 0 };
        sink.write_all(&vec![7; 2 * PIECE + 5]).unwrap();
        sink.send().unwrap();
        let mut sizes = Vec::new();
        while let Ok(v1::VolumeChunk { part: Some(Part::Data(data)), .. }) = receiver.try_recv() {
            sizes.push(data.len());
        }
        assert_eq!(sizes, [PIECE, PIECE, 5]);
        assert_eq!(sink.bytes, 2 * PIECE as u64 + 5);
        drop(receiver);
        sink.write_all(b"x").unwrap();
        assert_eq!(sink.send().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
