//! The server side of the transport. Who may call is decided by the layers before; here only whether we are meant.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use coracle_proto::v1;
use coracle_proto::v1::raft_transport_server::{RaftTransport, RaftTransportServer};
use futures::{Stream, StreamExt as _};
use openraft::async_runtime::WatchReceiver as _;
use openraft::error::RaftError;
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult, VoteResponse};
use tonic::{Request, Response, Status, Streaming};

use super::identity::Identity;
use super::platform::{Flag, Host, Platform};
use super::pulse::Heard;
use super::settings::MESSAGE_LIMIT;
use super::snapshot::SnapshotStore;
use super::types::{Raft, TypeConfig};
use super::wire::{self, Malformed};

mod snapshot;

/// Answers other managers.
#[derive(Clone)]
pub struct RaftService<P: Platform = Host> {
    raft: Raft<P>,
    identity: Identity,
    snapshots: Arc<SnapshotStore>,
    /// Where what leaders send is counted.
    heard: Heard,
    /// Turns true when Raft stops.
    stopped: Flag<P>,
    /// One snapshot is received at a time.
    receiving: Arc<tokio::sync::Mutex<()>>,
}

impl<P: Platform> std::fmt::Debug for RaftService<P> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("RaftService").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl<P: Platform> RaftService<P> {
    pub(crate) fn new(
        raft: Raft<P>,
        identity: Identity,
        snapshots: Arc<SnapshotStore>,
        heard: Heard,
        stopped: Flag<P>,
    ) -> Self {
        let receiving = Arc::new(tokio::sync::Mutex::new(()));
        Self { raft, identity, snapshots, heard, stopped, receiving }
    }

    /// The tonic service, with message limits set.
    #[must_use]
    pub fn into_server(self) -> RaftTransportServer<Self> {
        RaftTransportServer::new(self)
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT)
    }

    fn check(&self, addressee: Option<&v1::RaftAddressee>) -> Result<(), Status> {
        let Some(addressee) = addressee else { return Err(Malformed("the addressee is missing").into()) };
        if addressee.cluster_id == self.identity.cluster_id && addressee.raft_id == self.identity.raft_id {
            return Ok(());
        }
        Err(Status::failed_precondition(format!(
            "request is for manager {} of cluster {}, this is manager {} of cluster {}",
            addressee.raft_id, addressee.cluster_id, self.identity.raft_id, self.identity.cluster_id
        )))
    }

    /// A heartbeat, or one append outside the stream of appends.
    async fn append_one(&self, message: v1::RaftAppendRequest) -> Result<v1::RaftAppendResponse, Status> {
        let request = self.append_request(message)?;
        let previous = request.prev_log_id;
        let last = request.entries.last().map(|entry| entry.log_id).or(previous);
        let answer = self.raft.append_entries(request).await.map_err(|error| stopped(&error))?;
        if answer.is_conflict() && previous.is_none() {
            return Err(Status::internal("conflict with the beginning of the log"));
        }
        let result = answer.into_stream_result(previous, last);
        self.note(&result);
        Ok(wire::append_result_to_wire(result))
    }

    /// Who has a higher vote took nothing.
    fn note(&self, result: &StreamAppendResult<TypeConfig<P>>) {
        if !matches!(result, Err(StreamAppendError::HigherVote(_))) {
            self.heard.note();
        }
    }

    fn append_request(
        &self,
        message: v1::RaftAppendRequest,
    ) -> Result<AppendEntriesRequest<TypeConfig<P>>, Status> {
        self.check(message.addressee.as_ref())?;
        Ok(wire::append_request_from_wire(message)?)
    }
}

fn stopped(error: &dyn std::error::Error) -> Status {
    Status::unavailable(format!("Raft stopped on this manager: {error}"))
}

/// Why a stream of requests ended early, told at the end of the answers.
type EarlyEnd = Arc<Mutex<Option<Status>>>;

#[tonic::async_trait]
impl<P: Platform> RaftTransport for RaftService<P> {
    type AppendStream = Pin<Box<dyn Stream<Item = Result<v1::RaftAppendResponse, Status>> + Send>>;
    type HeartbeatsStream = Self::AppendStream;

    async fn append(
        &self,
        request: Request<Streaming<v1::RaftAppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        // What to say if the answers end before the requests do. An end without a reason would look to the leader like
        // a stream that had nothing more to do, and it would hold on to its log for this follower.
        let early_end = EarlyEnd::new(Mutex::new(Some(Status::unavailable("Raft stopped on this manager"))));
        let requests = {
            let start = (request.into_inner(), self.clone(), early_end.clone());
            futures::stream::unfold(start, |(mut messages, service, early_end)| async move {
                let request = match messages.message().await {
                    Ok(Some(message)) => service.append_request(message),
                    Ok(None) => {
                        note(&early_end, None);
                        return None;
                    }
                    Err(status) => Err(status),
                };
                match request {
                    Ok(request) => Some((request, (messages, service, early_end))),
                    Err(status) => {
                        note(&early_end, Some(status));
                        None
                    }
                }
            })
        };
        let service = self.clone();
        let answers = self.raft.stream_append(requests).map(move |result| match result {
            Ok(result) => {
                service.note(&result);
                Ok(wire::append_result_to_wire(result))
            }
            Err(fatal) => Err(stopped(&fatal)),
        });
        let end =
            futures::stream::once(
                async move { early_end.lock().unwrap_or_else(PoisonError::into_inner).take() },
            )
            .filter_map(|status| std::future::ready(status.map(Err)));
        // openraft ends the answers only after the requests; a leader that has nothing to send would keep the stream.
        let mut stopped = self.stopped.clone();
        let stopped = async move { stopped.wait_until(|stopped| *stopped).await.is_ok() };
        Ok(Response::new(Box::pin(answers.take_until(Box::pin(stopped)).chain(end))))
    }

    async fn heartbeat(
        &self,
        request: Request<v1::RaftAppendRequest>,
    ) -> Result<Response<v1::RaftAppendResponse>, Status> {
        self.append_one(request.into_inner()).await.map(Response::new)
    }

    async fn heartbeats(
        &self,
        request: Request<Streaming<v1::RaftAppendRequest>>,
    ) -> Result<Response<Self::HeartbeatsStream>, Status> {
        let start = Some((request.into_inner(), self.clone()));
        let answers = futures::stream::unfold(start, |start| async move {
            let (mut messages, service) = start?;
            let answer = match messages.message().await {
                Ok(Some(message)) => service.append_one(message).await,
                Ok(None) => return None,
                Err(status) => Err(status),
            };
            let more = answer.is_ok().then_some((messages, service));
            Some((answer, more))
        });
        let mut stopped = self.stopped.clone();
        let stopped = async move { stopped.wait_until(|stopped| *stopped).await.is_ok() };
        Ok(Response::new(Box::pin(answers.take_until(Box::pin(stopped)))))
    }

    async fn vote(
        &self,
        request: Request<v1::RaftVoteRequest>,
    ) -> Result<Response<v1::RaftVoteResponse>, Status> {
        let request = request.into_inner();
        self.check(request.addressee.as_ref())?;
        vote_answer(self.raft.vote(wire::vote_request_from_wire(request)?).await)
    }

    async fn pre_vote(
        &self,
        request: Request<v1::RaftVoteRequest>,
    ) -> Result<Response<v1::RaftVoteResponse>, Status> {
        let request = request.into_inner();
        self.check(request.addressee.as_ref())?;
        vote_answer(self.raft.pre_vote(wire::vote_request_from_wire(request)?).await)
    }

    async fn transfer_leader(
        &self,
        request: Request<v1::RaftTransferLeaderRequest>,
    ) -> Result<Response<v1::RaftTransferLeaderResponse>, Status> {
        let request = request.into_inner();
        self.check(request.addressee.as_ref())?;
        let request = wire::transfer_request_from_wire(request, self.identity.raft_id)?;
        let answer = self.raft.handle_transfer_leader(request).await.map_err(|fatal| stopped(&fatal))?;
        let refusal = answer.err().map(|error| error.to_string()).unwrap_or_default();
        Ok(Response::new(v1::RaftTransferLeaderResponse { refusal }))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<v1::RaftInstallSnapshotRequest>>,
    ) -> Result<Response<v1::RaftInstallSnapshotResponse>, Status> {
        let vote = self.receive_snapshot(request.into_inner()).await?;
        Ok(Response::new(v1::RaftInstallSnapshotResponse { vote: Some(wire::vote_to_wire(&vote)) }))
    }
}

fn note(early_end: &EarlyEnd, status: Option<Status>) {
    *early_end.lock().unwrap_or_else(PoisonError::into_inner) = status;
}

fn vote_answer<P: Platform>(
    result: Result<VoteResponse<TypeConfig<P>>, RaftError<TypeConfig<P>>>,
) -> Result<Response<v1::RaftVoteResponse>, Status> {
    match result {
        Ok(response) => Ok(Response::new(wire::vote_response_to_wire(&response))),
        Err(error) => Err(stopped(&error)),
    }
}
