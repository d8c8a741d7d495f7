//! Archives of volumes on their way between an operator and a node: in pieces, a few at a time, so that the slower side sets the
//! pace. An archive is whole only with its end, which says how long it is; whatever breaks off before is none.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coracle_model::id::NodeId;
use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1;
use coracle_proto::v1::volume_answer::Result as Answer;
use coracle_proto::v1::volume_chunk::Part;
use coracle_proto::v1::volume_request::Operation;
use futures::{Stream, StreamExt as _, stream};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tonic::Status;

use super::{Expected, Open, Place, TRANSFERS, VolumeBroker};

/// Pieces between the two sides.
const PIECES: usize = 4;
/// Bytes of one piece at most.
const PIECE: usize = 1 << 20;
/// How long a node may do nothing while an operator waits: its disk may be slow.
const NODE_IDLE: Duration = Duration::from_secs(60);
/// How long an operator may do nothing while a node waits: what reads or writes the archive may be slow, or a tape.
pub const OPERATOR_IDLE: Duration = Duration::from_secs(600);
/// How long a node may take to put everything on its disk after it has the whole archive.
const WRITTEN: Duration = Duration::from_secs(600);
/// How long the reason may take that a node broke off for.
const REASON: Duration = Duration::from_secs(5);

/// What goes from one side to the other.
#[derive(Debug)]
pub(super) enum Piece {
    Data(Bytes),
    End(v1::VolumeEnd),
    Problem(v1::VolumeProblem),
}

/// The operator's end of an archive that a node sends; dropping it tells the node to stop.
#[derive(Debug)]
pub struct Reading {
    pieces: mpsc::Receiver<Piece>,
    open: Open,
    _place: OwnedSemaphorePermit,
}

/// The operator's end of an archive that a node fetches; dropping it before the end makes the node forget what it has.
#[derive(Debug)]
pub struct Writing {
    pieces: mpsc::Sender<Piece>,
    answer: oneshot::Receiver<Answer>,
    bytes: u64,
    open: Open,
    _place: OwnedSemaphorePermit,
}

/// What a node sends.
#[derive(Debug)]
pub enum Read {
    /// A piece of the archive.
    Data(Bytes),
    /// The archive is whole.
    End(v1::VolumeEnd),
}

/// Why an archive did not come over.
#[derive(Debug)]
pub enum TransferError {
    /// It refused.
    Refused(v1::VolumeProblem),
    /// Something between here and there broke.
    Failed(ApiError),
}

impl From<ApiError> for TransferError {
    fn from(error: ApiError) -> Self {
        Self::Failed(error)
    }
}

impl VolumeBroker {
    fn transfer(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        Arc::clone(&self.transfers).try_acquire_owned().map_err(|_| {
            ApiError::new(
                Reason::Exhausted,
                format!("{TRANSFERS} volumes are being saved or restored already"),
            )
            .with_hint("try again when some are done")
        })
    }

    /// Asks a node for the archive of a volume.
    ///
    /// # Errors
    /// If the node cannot be asked, or too many archives are on their way.
    pub async fn read(self: &Arc<Self>, place: &Place, name: String) -> Result<Reading, ApiError> {
        let transfer = self.transfer()?;
        let (sender, pieces) = mpsc::channel(PIECES);
        let operation = Operation::Read(v1::ReadVolume { name });
        let open = self.begin(place, operation, Expected::Read(sender)).await?;
        Ok(Reading { pieces, open, _place: transfer })
    }

    /// Asks a node to make a volume of an archive.
    ///
    /// # Errors
    /// If the node cannot be asked, or too many archives are on their way.
    pub async fn write(
        self: &Arc<Self>,
        place: &Place,
        request: v1::WriteVolume,
    ) -> Result<Writing, ApiError> {
        let transfer = self.transfer()?;
        let ((pieces, archive), (sender, answer)) = (mpsc::channel(PIECES), oneshot::channel());
        let expected = Expected::Write(Some(archive), sender);
        let open = self.begin(place, Operation::Write(request), expected).await?;
        Ok(Writing { pieces, answer, bytes: 0, open, _place: transfer })
    }

    /// Takes the archive that a node sends, until its end or until nobody wants it. The first message names the request.
    ///
    /// # Errors
    /// If the request is not one of this node, or the archive is not sent as it should be.
    pub async fn publish<S>(&self, node: NodeId, chunks: S) -> Result<(), ApiError>
    where
        S: Stream<Item = Result<v1::VolumeChunk, Status>> + Unpin,
    {
        let mut chunks = chunks;
        let Some(Ok(first)) = chunks.next().await else { return Ok(()) };
        let pieces = self.claim(node, &first.id, |expected| match expected {
            // Cloned and closed: the next one that names it finds nobody who listens.
            Expected::Read(pieces) => Some(std::mem::replace(pieces, mpsc::channel(1).0)),
            _ => None,
        })?;
        if pieces.is_closed() {
            return Err(ApiError::new(Reason::NotFound, "this request is being answered already"));
        }
        let (mut next, mut bytes) = (Some(first), 0);
        while let Some(chunk) = next {
            let piece = match chunk.part {
                Some(Part::Data(data)) if data.len() > PIECE => {
                    let message = format!("a piece of {} bytes, {PIECE} at most", data.len());
                    return Err(ApiError::new(Reason::TooLarge, message));
                }
                Some(Part::Data(data)) => {
                    bytes += data.len() as u64;
                    Piece::Data(data)
                }
                Some(Part::End(end)) if end.bytes != bytes => {
                    let message = format!("{bytes} bytes were sent, {} were announced", end.bytes);
                    return Err(ApiError::new(Reason::Invalid, message));
                }
                Some(Part::End(end)) => Piece::End(end),
                Some(Part::Problem(problem)) => Piece::Problem(problem),
                None => {
                    next = chunks.next().await.and_then(Result::ok);
                    continue;
                }
            };
            let last = !matches!(piece, Piece::Data(_));
            let taken = tokio::time::timeout(OPERATOR_IDLE, pieces.send(piece)).await;
            if last || !matches!(taken, Ok(Ok(()))) {
                return Ok(());
            }
            next = chunks.next().await.and_then(Result::ok);
        }
        // It broke off: the reader learns it from the sender that goes.
        Ok(())
    }

    /// The archive that a node was asked to make a volume of: once, and for this node only.
    ///
    /// # Errors
    /// If the request is not one of this node, or was fetched before.
    pub fn fetch(
        &self,
        node: NodeId,
        id: &str,
    ) -> Result<impl Stream<Item = Result<v1::VolumeChunk, Status>> + Send + 'static, ApiError> {
        let archive = self.claim(node, id, |expected| match expected {
            Expected::Write(archive, _) => archive.take(),
            _ => None,
        })?;
        Ok(stream::unfold(Some(archive), |archive| async move {
            let mut archive = archive?;
            let part = match archive.recv().await {
                Some(Piece::Data(data)) => Part::Data(data),
                Some(Piece::End(end)) => {
                    let part = Some(Part::End(end));
                    return Some((Ok(v1::VolumeChunk { id: String::new(), part }), None));
                }
                Some(Piece::Problem(_)) | None => {
                    let broken =
                        ApiError::new(Reason::Unavailable, "the archive broke off: whoever sent it is gone");
                    return Some((Err(broken.into()), None));
                }
            };
            Some((Ok(v1::VolumeChunk { id: String::new(), part: Some(part) }), Some(archive)))
        }))
    }
}

impl Reading {
    /// The next piece, or the end of the archive.
    ///
    /// # Errors
    /// What the node refuses, or why the archive is not whole.
    pub async fn next(&mut self) -> Result<Read, TransferError> {
        let host = &self.open.place.hostname;
        tokio::select! {
            biased;
            piece = self.pieces.recv() => match piece {
                Some(Piece::Data(data)) => Ok(Read::Data(data)),
                Some(Piece::End(end)) => Ok(Read::End(end)),
                Some(Piece::Problem(problem)) => Err(TransferError::Refused(problem)),
                None => Err(broken(format!("node {host} broke off before the end of the archive"))),
            },
            () = self.open.close.cancelled() => Err(self.open.lost(false).into()),
            () = tokio::time::sleep(NODE_IDLE) => Err(idle(host)),
        }
    }
}

impl Writing {
    /// Passes a piece on, when the node has room for it.
    ///
    /// # Errors
    /// What the node refuses, or why it does not go on. Nothing of the archive is kept then.
    pub async fn put(&mut self, data: Bytes) -> Result<(), TransferError> {
        self.bytes += data.len() as u64;
        for at in (0..data.len()).step_by(PIECE) {
            let piece = data.slice(at..data.len().min(at + PIECE));
            self.send(Piece::Data(piece)).await?;
        }
        Ok(())
    }

    /// Resolves when nothing more can come of it: the node refuses, or is lost.
    pub async fn broken(&mut self) -> TransferError {
        tokio::select! {
            biased;
            Ok(answer) = &mut self.answer => refusal(answer),
            () = self.open.close.cancelled() => self.open.lost(false).into(),
        }
    }

    /// Passes the end on and waits until the volume is on the node's disk.
    ///
    /// # Errors
    /// What the node refuses, or that it is not known what has become of the volume.
    pub async fn finish(mut self) -> Result<(v1::VolumeWritten, u64), TransferError> {
        let bytes = self.bytes;
        self.send(Piece::End(v1::VolumeEnd { bytes, ..Default::default() })).await?;
        let answer = tokio::select! {
            biased;
            answer = &mut self.answer => answer,
            () = self.open.close.cancelled() => return Err(self.open.lost(true).into()),
            () = tokio::time::sleep(WRITTEN) => return Err(self.open.no_answer(WRITTEN, true).into()),
        };
        match answer {
            Ok(Answer::Written(written)) => Ok((written, bytes)),
            Ok(other) => Err(refusal(other)),
            Err(_) => Err(self.open.lost(true).into()),
        }
    }

    async fn send(&mut self, piece: Piece) -> Result<(), TransferError> {
        let host = &self.open.place.hostname;
        tokio::select! {
            biased;
            Ok(answer) = &mut self.answer => Err(refusal(answer)),
            () = self.open.close.cancelled() => Err(self.open.lost(false).into()),
            sent = self.pieces.send(piece) => match sent {
                Ok(()) => Ok(()),
                // The node has stopped fetching: its reason is on the way, on another connection.
                Err(_) => Err(within(REASON, &mut self.answer).await.map_or_else(
                    || broken(format!("node {host} stopped taking the archive")),
                    refusal,
                )),
            },
            () = tokio::time::sleep(NODE_IDLE) => Err(idle(host)),
        }
    }
}

async fn within<T, E>(limit: Duration, answer: impl Future<Output = Result<T, E>>) -> Option<T> {
    tokio::time::timeout(limit, answer).await.ok()?.ok()
}

fn refusal(answer: Answer) -> TransferError {
    match answer {
        Answer::Problem(problem) => TransferError::Refused(problem),
        _ => TransferError::Failed(ApiError::new(
            Reason::Internal,
            "the node answered something else than was asked",
        )),
    }
}

fn broken(what: String) -> TransferError {
    ApiError::new(Reason::Unavailable, what).with_hint("look at the log of its daemon").into()
}

fn idle(host: &str) -> TransferError {
    let message = format!("node {host} did nothing for {} s", NODE_IDLE.as_secs());
    ApiError::new(Reason::Unavailable, message)
        .with_hint("look at its disk, and at the log of its daemon")
        .into()
}
