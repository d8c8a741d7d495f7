//! How entries ended, as it is returned to their proposers.

use coracle_manager_core::{Outcome, Refusal, RefusalKind};
use coracle_model::version::Version;
use coracle_proto::v1;
use coracle_proto::v1::refusal::Kind;
use prost::Message;

use super::CodecError;

/// How an entry ended.
#[must_use]
pub fn encode_outcome(outcome: &Outcome) -> Vec<u8> {
    let outcome = match outcome {
        Outcome::Applied(version) => v1::outcome::Outcome::Applied(version.index()),
        Outcome::Refused(refusal) => v1::outcome::Outcome::Refused(v1::Refusal {
            kind: encode_kind(refusal.kind).into(),
            message: refusal.message.clone(),
        }),
    };
    v1::Outcome { outcome: Some(outcome) }.encode_to_vec()
}

/// Reads how an entry ended.
///
/// # Errors
/// When it is not understood.
pub fn decode_outcome(bytes: &[u8]) -> Result<Outcome, CodecError> {
    match v1::Outcome::decode(bytes)?.outcome {
        Some(v1::outcome::Outcome::Applied(index)) => Ok(Outcome::Applied(Version::new(index))),
        Some(v1::outcome::Outcome::Refused(refusal)) => {
            Ok(Outcome::Refused(Refusal { kind: decode_kind(refusal.kind())?, message: refusal.message }))
        }
        None => Err(CodecError::Unknown("outcome")),
    }
}

const fn encode_kind(kind: RefusalKind) -> Kind {
    match kind {
        RefusalKind::NotFound => Kind::NotFound,
        RefusalKind::Stale => Kind::Stale,
        RefusalKind::Exists => Kind::Exists,
        RefusalKind::Forbidden => Kind::Forbidden,
        RefusalKind::NotLeader => Kind::NotLeader,
        RefusalKind::Malformed => Kind::Malformed,
    }
}

const fn decode_kind(kind: Kind) -> Result<RefusalKind, CodecError> {
    Ok(match kind {
        Kind::Unspecified => return Err(CodecError::Unknown("refusal")),
        Kind::NotFound => RefusalKind::NotFound,
        Kind::Stale => RefusalKind::Stale,
        Kind::Exists => RefusalKind::Exists,
        Kind::Forbidden => RefusalKind::Forbidden,
        Kind::NotLeader => RefusalKind::NotLeader,
        Kind::Malformed => RefusalKind::Malformed,
    })
}
