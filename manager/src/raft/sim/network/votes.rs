//! Who voted for whom, read from the wire: a voter grants one candidate per term, whatever happens to it in between.

use std::collections::BTreeMap;

use bytes::Bytes;
use coracle_proto::v1;
use prost::Message as _;

/// Bytes before a message in a gRPC body.
const PREFIX: usize = 5;

/// The votes that were granted.
#[derive(Debug, Default)]
pub(super) struct Votes {
    granted: BTreeMap<(u64, u64), u64>,
    /// The first contradiction.
    pub(super) wrong: Option<String>,
}

impl Votes {
    /// Notes an answer to a call for votes.
    pub(super) fn note(&mut self, voter: u64, request: &Bytes, answer: &Bytes) {
        let (Some(request), Some(answer)) = (request.get(PREFIX..), answer.get(PREFIX..)) else { return };
        let (Ok(request), Ok(answer)) =
            (v1::RaftVoteRequest::decode(request), v1::RaftVoteResponse::decode(answer))
        else {
            return;
        };
        let Some(vote) = request.vote.filter(|_| answer.granted) else { return };
        let before = self.granted.entry((vote.term, voter)).or_insert(vote.voted_for);
        if *before != vote.voted_for {
            self.wrong.get_or_insert(format!(
                "in term {} manager {voter} voted for {before} and for {}",
                vote.term, vote.voted_for
            ));
        }
    }
}
