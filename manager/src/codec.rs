//! The core's values in their stored format (`store.proto`): entries of the log, their outcomes, snapshots.
//!
//! Encoding never fails. Decoding refuses what this version does not understand, with the field at fault,
//! instead of taking it for something else.

mod change;
mod outcome;
mod proposal;
mod snapshot;

#[cfg(test)]
mod tests;

use coracle_proto::convert;

pub use outcome::{decode_outcome, encode_outcome};
pub use proposal::{decode_proposal, encode_proposal};
pub use snapshot::{FORMAT, RECORD_LIMIT, decode_record, encode_record, read_snapshot, write_snapshot};

/// Why stored bytes cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// They are no protobuf message of the kind that is expected.
    #[error("stored bytes are no message of the kind that belongs here")]
    Message(#[from] prost::DecodeError),
    /// A part has a value that this version does not know.
    #[error("a stored message cannot be understood: {0}")]
    Value(#[from] convert::DecodeError),
    /// A message of a kind that this version does not know.
    #[error("a stored {0} is of a kind that this version does not know; is it of a newer one?")]
    Unknown(&'static str),
}
