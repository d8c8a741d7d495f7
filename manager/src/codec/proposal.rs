//! Entries of the log.

use coracle_manager_core::Proposal;
use coracle_model::time::Timestamp;
use coracle_proto::convert::parse;
use coracle_proto::v1;
use prost::Message;

use super::{CodecError, change};

/// An entry of the log.
#[must_use]
pub fn encode_proposal(proposal: &Proposal) -> Vec<u8> {
    let message = v1::Proposal {
        changes: proposal.changes.iter().map(change::encode).collect(),
        actor: proposal.actor.clone(),
        reason: proposal.reason.clone(),
        time: proposal.time.as_nanos(),
        idempotency_key: proposal.idempotency.map(|key| key.to_string()).unwrap_or_default(),
        term: proposal.term,
    };
    message.encode_to_vec()
}

/// Reads an entry of the log.
///
/// # Errors
/// When it is not understood; every manager of one version refuses the same entries.
pub fn decode_proposal(bytes: &[u8]) -> Result<Proposal, CodecError> {
    let message = v1::Proposal::decode(bytes)?;
    let key = message.idempotency_key.as_str();
    Ok(Proposal {
        changes: message.changes.into_iter().map(change::decode).collect::<Result<_, _>>()?,
        actor: message.actor,
        reason: message.reason,
        time: Timestamp::from_nanos(message.time),
        idempotency: if key.is_empty() { None } else { Some(parse("idempotency key", key)?) },
        term: message.term,
    })
}
