//! openraft's types to messages and back; the only place that knows both.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use bytes::Bytes;
use coracle_proto::v1;
use openraft::EntryPayload;
use openraft::entry::RaftEntry as _;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderRequest, VoteRequest,
    VoteResponse,
};
use prost::Message as _;

use super::platform::Platform;
use super::types::{
    Command, Entry, LeaderId, LogId, Member, Membership, Payload, SnapshotMeta, StoredMembership, TypeConfig,
    Vote, log_id, term_of,
};

/// A message that lacks a part or contradicts itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed Raft message: {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

impl From<Malformed> for io::Error {
    fn from(error: Malformed) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

impl From<Malformed> for tonic::Status {
    fn from(error: Malformed) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

pub(crate) fn vote_to_wire(vote: &Vote) -> v1::RaftVote {
    v1::RaftVote { term: vote.leader_id.term, voted_for: vote.leader_id.voted_for, committed: vote.committed }
}

pub(crate) fn vote_from_wire(vote: v1::RaftVote) -> Vote {
    Vote { leader_id: LeaderId { term: vote.term, voted_for: vote.voted_for }, committed: vote.committed }
}

pub(crate) fn needed_vote(vote: Option<v1::RaftVote>) -> Result<Vote, Malformed> {
    vote.map(vote_from_wire).ok_or(Malformed("the vote is missing"))
}

pub(crate) fn log_id_to_wire(log_id: &LogId) -> v1::RaftLogId {
    v1::RaftLogId { term: term_of(log_id), index: log_id.index }
}

pub(crate) fn log_id_from_wire(wire: v1::RaftLogId) -> LogId {
    log_id(wire.term, wire.index)
}

fn optional_to_wire(log_id: Option<&LogId>) -> Option<v1::RaftLogId> {
    log_id.map(log_id_to_wire)
}

pub(crate) fn membership_to_wire(membership: &Membership) -> v1::RaftMembership {
    v1::RaftMembership {
        voter_sets: membership
            .get_joint_config()
            .iter()
            .map(|voters| v1::RaftVoterSet { raft_ids: voters.iter().copied().collect() })
            .collect(),
        members: membership
            .nodes()
            .map(|(raft_id, member)| v1::RaftMember { raft_id: *raft_id, address: member.address.clone() })
            .collect(),
    }
}

pub(crate) fn membership_from_wire(wire: v1::RaftMembership) -> Result<Membership, Malformed> {
    let sets: Vec<BTreeSet<u64>> =
        wire.voter_sets.into_iter().map(|set| set.raft_ids.into_iter().collect()).collect();
    let members: BTreeMap<u64, Member> =
        wire.members.into_iter().map(|member| (member.raft_id, Member { address: member.address })).collect();
    if sets.is_empty() && members.is_empty() {
        // What a manager that never heard of the cluster has.
        return Ok(Membership::default());
    }
    Membership::new(sets, members)
        .map_err(|_| Malformed("the membership names a voter that is no member, or no voter"))
}

pub(crate) fn snapshot_meta_to_wire(meta: &SnapshotMeta) -> v1::RaftSnapshotMeta {
    v1::RaftSnapshotMeta {
        last_log_id: optional_to_wire(meta.last_log_id.as_ref()),
        last_membership: Some(v1::RaftStoredMembership {
            log_id: optional_to_wire(meta.last_membership.log_id().as_ref()),
            membership: Some(membership_to_wire(meta.last_membership.membership())),
        }),
    }
}

pub(crate) fn snapshot_meta_from_wire(wire: v1::RaftSnapshotMeta) -> Result<SnapshotMeta, Malformed> {
    let stored = wire.last_membership.ok_or(Malformed("the snapshot's membership is missing"))?;
    let membership = membership_from_wire(stored.membership.unwrap_or_default())?;
    Ok(SnapshotMeta {
        last_log_id: wire.last_log_id.map(log_id_from_wire),
        last_membership: StoredMembership::new(stored.log_id.map(log_id_from_wire), membership),
    })
}

/// An entry's payload as it is stored and sent.
pub(crate) fn encode_payload(payload: &Payload) -> Bytes {
    use v1::raft_payload::Content;
    let content = match payload {
        EntryPayload::Blank => None,
        EntryPayload::Normal(command) => Some(Content::Command(command.0.clone())),
        EntryPayload::Membership(membership) => Some(Content::Membership(membership_to_wire(membership))),
    };
    v1::RaftPayload { content }.encode_to_vec().into()
}

/// The reverse of [`encode_payload`].
pub(crate) fn decode_entry(term: u64, index: u64, payload: Bytes) -> Result<Entry, Malformed> {
    use v1::raft_payload::Content;
    let payload =
        v1::RaftPayload::decode(payload).map_err(|_| Malformed("an entry's payload is not decodable"))?;
    let payload = match payload.content {
        None => EntryPayload::Blank,
        Some(Content::Command(command)) => EntryPayload::Normal(Command(command)),
        Some(Content::Membership(membership)) => EntryPayload::Membership(membership_from_wire(membership)?),
    };
    Ok(Entry::new(log_id(term, index), payload))
}

fn entry_from_wire(entry: v1::RaftEntry) -> Result<Entry, Malformed> {
    let log_id = entry.log_id.ok_or(Malformed("an entry has no position"))?;
    decode_entry(log_id.term, log_id.index, entry.payload)
}

pub(crate) fn append_request_to_wire<P: Platform>(
    addressee: v1::RaftAddressee,
    request: &AppendEntriesRequest<TypeConfig<P>>,
) -> v1::RaftAppendRequest {
    v1::RaftAppendRequest {
        addressee: Some(addressee),
        vote: Some(vote_to_wire(&request.vote)),
        previous: optional_to_wire(request.prev_log_id.as_ref()),
        entries: request
            .entries
            .iter()
            .map(|entry| v1::RaftEntry {
                log_id: Some(log_id_to_wire(&entry.log_id())),
                payload: encode_payload(&entry.payload),
            })
            .collect(),
        committed: optional_to_wire(request.leader_commit.as_ref()),
    }
}

pub(crate) fn append_request_from_wire<P: Platform>(
    wire: v1::RaftAppendRequest,
) -> Result<AppendEntriesRequest<TypeConfig<P>>, Malformed> {
    let entries = wire.entries.into_iter().map(entry_from_wire).collect::<Result<Vec<_>, _>>()?;
    let previous = wire.previous.map(log_id_from_wire);
    check_consecutive(previous.as_ref(), &entries)?;
    Ok(AppendEntriesRequest {
        vote: needed_vote(wire.vote)?,
        prev_log_id: previous,
        entries,
        leader_commit: wire.committed.map(log_id_from_wire),
    })
}

/// A gap would corrupt the log, and Raft itself looks at the last entry only.
fn check_consecutive(previous: Option<&LogId>, entries: &[Entry]) -> Result<(), Malformed> {
    let first = previous.map_or(0, |previous| previous.index + 1);
    if entries.iter().zip(first..).any(|(entry, expected)| entry.log_id.index != expected) {
        return Err(Malformed("the entries do not follow each other"));
    }
    Ok(())
}

pub(crate) fn append_result_to_wire<P: Platform>(
    result: StreamAppendResult<TypeConfig<P>>,
) -> v1::RaftAppendResponse {
    use v1::raft_append_response::{Matched, Result as Wire};
    let result = match result {
        Ok(log_id) => Wire::Matched(Matched { log_id: optional_to_wire(log_id.as_ref()) }),
        Err(StreamAppendError::Conflict(log_id)) => Wire::Conflict(log_id_to_wire(&log_id)),
        Err(StreamAppendError::HigherVote(vote)) => Wire::HigherVote(vote_to_wire(&vote)),
    };
    v1::RaftAppendResponse { result: Some(result) }
}

pub(crate) fn append_result_from_wire<P: Platform>(
    wire: v1::RaftAppendResponse,
) -> Result<StreamAppendResult<TypeConfig<P>>, Malformed> {
    use v1::raft_append_response::Result as Wire;
    Ok(match wire.result.ok_or(Malformed("the answer to an append is empty"))? {
        Wire::Matched(matched) => Ok(matched.log_id.map(log_id_from_wire)),
        Wire::Conflict(log_id) => Err(StreamAppendError::Conflict(log_id_from_wire(log_id))),
        Wire::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote_from_wire(vote))),
    })
}

pub(crate) fn vote_request_to_wire<P: Platform>(
    addressee: v1::RaftAddressee,
    request: &VoteRequest<TypeConfig<P>>,
) -> v1::RaftVoteRequest {
    v1::RaftVoteRequest {
        addressee: Some(addressee),
        vote: Some(vote_to_wire(&request.vote)),
        last_log_id: optional_to_wire(request.last_log_id.as_ref()),
        leadership_transfer: request.leadership_transfer,
    }
}

pub(crate) fn vote_request_from_wire<P: Platform>(
    wire: v1::RaftVoteRequest,
) -> Result<VoteRequest<TypeConfig<P>>, Malformed> {
    let mut request = VoteRequest::new(needed_vote(wire.vote)?, wire.last_log_id.map(log_id_from_wire));
    request.leadership_transfer = wire.leadership_transfer;
    Ok(request)
}

pub(crate) fn vote_response_to_wire<P: Platform>(
    response: &VoteResponse<TypeConfig<P>>,
) -> v1::RaftVoteResponse {
    v1::RaftVoteResponse {
        vote: Some(vote_to_wire(&response.vote)),
        granted: response.vote_granted,
        last_log_id: optional_to_wire(response.last_log_id.as_ref()),
    }
}

pub(crate) fn vote_response_from_wire<P: Platform>(
    wire: v1::RaftVoteResponse,
) -> Result<VoteResponse<TypeConfig<P>>, Malformed> {
    Ok(VoteResponse::new(needed_vote(wire.vote)?, wire.last_log_id.map(log_id_from_wire), wire.granted))
}

pub(crate) fn transfer_request_to_wire<P: Platform>(
    addressee: v1::RaftAddressee,
    request: &TransferLeaderRequest<TypeConfig<P>>,
) -> v1::RaftTransferLeaderRequest {
    v1::RaftTransferLeaderRequest {
        addressee: Some(addressee),
        from_leader: Some(vote_to_wire(request.from_leader())),
        last_log_id: optional_to_wire(request.last_log_id()),
    }
}

pub(crate) fn transfer_request_from_wire<P: Platform>(
    wire: v1::RaftTransferLeaderRequest,
    to: u64,
) -> Result<TransferLeaderRequest<TypeConfig<P>>, Malformed> {
    Ok(TransferLeaderRequest::new(needed_vote(wire.from_leader)?, to, wire.last_log_id.map(log_id_from_wire)))
}
