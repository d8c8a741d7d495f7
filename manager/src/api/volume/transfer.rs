//! Archives between operators and nodes. Nothing is held here but a few pieces; the slower side sets the pace.

use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1;
use coracle_proto::v1::backup_volume_response::Part as Out;
use coracle_proto::v1::restore_volume_request::Part as In;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use tonic::{Status, Streaming};

use super::{Seen, answer};
use crate::dispatcher::volumes::{OPERATOR_IDLE, Place, Read, Reading, TransferError};

/// The first message of a restoration.
///
/// # Errors
/// If it is another, or does not come.
pub(super) async fn start(
    parts: &mut Streaming<v1::RestoreVolumeRequest>,
) -> Result<v1::RestoreVolumeStart, Status> {
    match next(parts).await? {
        Some(In::Start(start)) => Ok(start),
        _ => Err(ApiError::new(Reason::Invalid, "the request does not begin with a start").into()),
    }
}

async fn next(parts: &mut Streaming<v1::RestoreVolumeRequest>) -> Result<Option<In>, Status> {
    let Ok(message) = tokio::time::timeout(OPERATOR_IDLE, parts.message()).await else {
        let message = format!("nothing of the archive arrived for {} s", OPERATOR_IDLE.as_secs());
        return Err(ApiError::new(Reason::Unavailable, message).into());
    };
    Ok(message?.and_then(|message| message.part))
}

/// The archive of a volume, as the node sends it.
///
/// # Errors
/// If the node cannot be asked, or refuses.
pub(super) async fn backup(
    seen: Seen,
    place: Place,
    name: String,
) -> Result<BoxStream<'static, Result<v1::BackupVolumeResponse, Status>>, ApiError> {
    let volume = seen.broker.volume(place.node, &name);
    let mut reading = seen.broker.read(&place, name.clone()).await?;
    // A refusal is the call's, not that of a stream that has begun.
    let first = reading.next().await.map_err(|error| answer::transfer_error(&seen.view, &place, error))?;
    let volume = volume.map_or_else(|| v1::Volume { name, ..Default::default() }, |volume| (&volume).into());
    let start = Ok(respond(Out::Start(answer::of(&place, volume))));
    let rest = stream::try_unfold(Archive { seen, place, reading, next: Some(first) }, Archive::step);
    Ok(stream::iter([start]).chain(rest).boxed())
}

const fn respond(part: Out) -> v1::BackupVolumeResponse {
    v1::BackupVolumeResponse { part: Some(part) }
}

/// An archive on its way to an operator: one piece is always looked at ahead.
struct Archive {
    seen: Seen,
    place: Place,
    reading: Reading,
    /// Nothing after the end.
    next: Option<Read>,
}

impl Archive {
    async fn step(mut self) -> Result<Option<(v1::BackupVolumeResponse, Self)>, Status> {
        let Some(read) = self.next.take() else { return Ok(None) };
        let data = match read {
            Read::End(end) => return Ok(Some((respond(Out::End(end)), self))),
            Read::Data(data) => data,
        };
        match self.reading.next().await {
            Ok(next) => self.next = Some(next),
            Err(error) => {
                return Err(answer::transfer_error(&self.seen.view, &self.place, error).into());
            }
        }
        Ok(Some((respond(Out::Data(data)), self)))
    }
}

/// Passes an archive on to a node and waits until the volume is there.
///
/// # Errors
/// If the operator does not send all of it, the node cannot be asked, refuses, or is lost. Nothing is kept then, except where the
/// error says that this is not known.
pub(super) async fn restore(
    seen: Seen,
    place: Place,
    write: v1::WriteVolume,
    mut parts: Streaming<v1::RestoreVolumeRequest>,
) -> Result<v1::RestoreVolumeResponse, Status> {
    let failed = |error: TransferError| answer::transfer_error(&seen.view, &place, error);
    let mut writing = seen.broker.write(&place, write).await?;
    let mut bytes = 0;
    loop {
        // A node that refuses or is lost ends the call also while the operator's side sends nothing.
        let part = tokio::select! {
            biased;
            error = writing.broken() => return Err(failed(error).into()),
            part = next(&mut parts) => part?,
        };
        match part {
            Some(In::Data(data)) => {
                bytes += data.len() as u64;
                writing.put(data).await.map_err(failed)?;
            }
            Some(In::End(end)) if end.bytes == bytes => break,
            Some(In::End(end)) => {
                let message = format!("{bytes} bytes of the archive arrived, {} were sent", end.bytes);
                return Err(ApiError::new(Reason::Invalid, message).into());
            }
            Some(In::Start(_)) => {
                return Err(ApiError::new(Reason::Invalid, "a start after the beginning").into());
            }
            None => {
                return Err(ApiError::new(Reason::Invalid, "the archive breaks off before its end").into());
            }
        }
    }
    let (written, bytes) = writing.finish().await.map_err(failed)?;
    let v1::VolumeWritten { volume, left_out, attributes_left_out } = written;
    let volume = volume.map(|volume| answer::of(&place, volume));
    Ok(v1::RestoreVolumeResponse { volume, bytes, left_out, attributes_left_out })
}
