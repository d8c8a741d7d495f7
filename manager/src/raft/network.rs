//! The client side of the transport: one [`Peer`] per other manager and purpose, over gRPC.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coracle_proto::v1;
use coracle_proto::v1::raft_transport_client::RaftTransportClient;
use futures::{Stream, StreamExt as _};
use openraft::async_runtime::Select2;
use openraft::base::{BoxFuture, BoxStream};
use openraft::error::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{RPCOption, stream_append_sequential};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    VoteRequest, VoteResponse,
};
use openraft::{AsyncRuntime as _, OptionalSend, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};
use tower::ServiceExt as _;
use tower::util::BoxCloneSyncService;

use super::identity::Identity;
use super::platform::{Host, Platform};
use super::settings::{MESSAGE_LIMIT, STALL};
use super::snapshot::{SnapshotFile, SnapshotStore};
use super::types::{Member, Snapshot, TypeConfig, Vote};
use super::wire::{self, Malformed};
use heartbeats::Line;
use revocable::revocable;

mod heartbeats;
mod revocable;
mod snapshot;

/// Why a channel could not be made.
pub type ConnectError = Box<dyn Error + Send + Sync>;

/// Makes connections to other managers.
pub trait PeerConnector: Send + Sync + 'static {
    /// A new channel, with a connection of its own that is made when needed, to the manager with this Raft id.
    ///
    /// The connection must fail unless the peer proves to be that manager. Use [`endpoint`] for the settings.
    ///
    /// # Errors
    /// When the address or the credentials are unusable; tried again later.
    fn channel(&self, raft_id: u64, address: &str) -> Result<Channel, ConnectError>;
}

/// A connection to another manager: takes gRPC calls as HTTP requests.
pub(crate) type Transport = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, TransportError>;

/// Why a call did not get through.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct TransportError(#[source] pub(crate) ConnectError);

/// Makes connections, over whatever carries HTTP.
pub(crate) trait Connect: Send + Sync + 'static {
    /// As [`PeerConnector::channel`].
    fn connect(&self, raft_id: u64, address: &str) -> Result<Transport, ConnectError>;
}

/// Connects through HTTP/2 over the network.
pub(crate) struct Http2(pub(crate) Arc<dyn PeerConnector>);

impl Connect for Http2 {
    fn connect(&self, raft_id: u64, address: &str) -> Result<Transport, ConnectError> {
        let channel = self.0.channel(raft_id, address)?;
        Ok(BoxCloneSyncService::new(channel.map_err(|error| TransportError(error.into()))))
    }
}

/// An endpoint with the settings that a transport between managers needs: a dead host is noticed in a few seconds.
#[must_use]
pub fn endpoint(uri: Uri) -> Endpoint {
    Endpoint::from(uri)
        .connect_timeout(Duration::from_secs(1))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(2))
        .keep_alive_timeout(Duration::from_secs(2))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(Some(2 << 20))
        .initial_connection_window_size(Some(4 << 20))
}

/// Wait before a peer whose stream failed is tried again.
const UNREACHABLE_PAUSE: Duration = Duration::from_millis(100);

/// What a connection is for. Each purpose has its own, so that bulk never delays a heartbeat or a vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Lane {
    Entries,
    Control,
    Snapshot,
}

/// The connections to all other managers.
pub(crate) struct Peers {
    identity: Identity,
    connector: Arc<dyn Connect>,
    snapshots: Arc<SnapshotStore>,
    /// Kept between elections: a new connection for each vote would cost a TLS handshake when time counts.
    channels: Mutex<HashMap<(u64, Lane), (String, Transport)>>,
}

impl fmt::Debug for Peers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Peers").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Peers {
    pub(crate) fn new(
        identity: Identity,
        connector: Arc<dyn Connect>,
        snapshots: Arc<SnapshotStore>,
    ) -> Arc<Self> {
        Arc::new(Self { identity, connector, snapshots, channels: Mutex::new(HashMap::new()) })
    }

    fn client(
        &self,
        raft_id: u64,
        member: &Member,
        lane: Lane,
    ) -> Result<RaftTransportClient<Transport>, ConnectError> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let channel = match channels.get(&(raft_id, lane)) {
            Some((address, channel)) if *address == member.address => channel.clone(),
            _ => {
                let channel = self.connector.connect(raft_id, &member.address)?;
                channels.insert((raft_id, lane), (member.address.clone(), channel.clone()));
                channel
            }
        };
        drop(channels);
        Ok(RaftTransportClient::new(channel)
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT))
    }
}

/// openraft's factory of [`Peer`]s.
#[derive(Debug, Clone)]
pub(crate) struct PeerFactory<P: Platform = Host> {
    peers: Arc<Peers>,
    _platform: PhantomData<P>,
}

impl<P: Platform> PeerFactory<P> {
    pub(crate) fn new(peers: Arc<Peers>) -> Self {
        Self { peers, _platform: PhantomData }
    }

    fn peer(&self, raft_id: u64, member: &Member, heartbeats: bool) -> Peer<P> {
        let peers = self.peers.clone();
        let line = Line::default();
        Peer { peers, raft_id, member: member.clone(), heartbeats, line, _platform: PhantomData }
    }
}

impl<P: Platform> RaftNetworkFactory<TypeConfig<P>> for PeerFactory<P> {
    type Network = Peer<P>;

    async fn new_client(&mut self, target: u64, node: &Member) -> Peer<P> {
        self.peer(target, node, false)
    }

    // The default hands out the replication client: a large batch would then delay heartbeats until they count as lost.
    async fn new_heartbeat_client(&mut self, target: u64, node: &Member) -> Peer<P> {
        self.peer(target, node, true)
    }
}

/// Another manager.
#[derive(Debug)]
pub(crate) struct Peer<P: Platform = Host> {
    peers: Arc<Peers>,
    raft_id: u64,
    member: Member,
    /// Appends go one by one on the control connection.
    heartbeats: bool,
    /// By which they go.
    line: Line,
    _platform: PhantomData<P>,
}

impl<P: Platform> Peer<P> {
    fn client(&self, lane: Lane) -> Result<RaftTransportClient<Transport>, RPCError<TypeConfig<P>>> {
        self.peers.client(self.raft_id, &self.member, lane).map_err(|error| {
            RPCError::Unreachable(Unreachable::from_string(format!("{}: {error}", self.name())))
        })
    }

    fn name(&self) -> String {
        format!("manager {} at {}", self.raft_id, self.member.address)
    }

    fn addressee(&self) -> v1::RaftAddressee {
        v1::RaftAddressee { cluster_id: self.peers.identity.cluster_id.clone(), raft_id: self.raft_id }
    }

    fn timeout(&self, action: RPCTypes, timeout: Duration) -> Timeout<TypeConfig<P>> {
        Timeout { action, id: self.peers.identity.raft_id, target: self.raft_id, timeout }
    }

    /// One call with a deadline.
    async fn call<T>(
        &self,
        action: RPCTypes,
        deadline: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, Status>> + Send,
    ) -> Result<T, RPCError<TypeConfig<P>>> {
        match P::Runtime::timeout(deadline, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.failed(&status)),
            Err(_) => Err(self.timeout(action, deadline).into()),
        }
    }

    fn failed(&self, status: &Status) -> RPCError<TypeConfig<P>> {
        let text = format!("{}: {:?}: {}", self.name(), status.code(), status.message());
        match status.code() {
            // No connection, or somebody else answers there: back off.
            Code::Unavailable | Code::FailedPrecondition | Code::PermissionDenied | Code::Unauthenticated => {
                RPCError::Unreachable(Unreachable::from_string(text))
            }
            _ => RPCError::Network(NetworkError::from_string(text)),
        }
    }

    fn malformed(&self, error: Malformed) -> RPCError<TypeConfig<P>> {
        RPCError::Network(NetworkError::from_string(format!("{}: {error}", self.name())))
    }

    /// Opens the replication stream.
    async fn open_stream<S>(&mut self, input: S) -> Result<Answers<'_, P>, RPCError<TypeConfig<P>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig<P>>> + OptionalSend + Unpin + 'static,
    {
        let mut client = self.client(Lane::Entries)?;
        let sent = Arc::new(AtomicU64::new(0));
        let addressee = self.addressee();
        let (requests_owner, requests) = revocable({
            let sent = sent.clone();
            input.map(move |request| {
                sent.fetch_add(1, Ordering::Relaxed);
                wire::append_request_to_wire(addressee.clone(), &request)
            })
        });
        let stream = self.call(RPCTypes::AppendEntries, STALL, client.append(requests)).await?;
        Ok(Answers { peer: self, stream, sent, received: 0, _requests: requests_owner })
    }
}

/// The answers of a replication stream.
struct Answers<'peer, P: Platform> {
    peer: &'peer Peer<P>,
    stream: tonic::Streaming<v1::RaftAppendResponse>,
    sent: Arc<AtomicU64>,
    received: u64,
    /// The requests end with the answers.
    _requests: revocable::Owner<v1::RaftAppendRequest>,
}

impl<P: Platform> Answers<'_, P> {
    /// The next answer; `None` when the stream ended. No limit to the silence of an idle stream, but one to the silence
    /// after a request.
    async fn next(&mut self) -> Option<Result<StreamAppendResult<TypeConfig<P>>, RPCError<TypeConfig<P>>>> {
        loop {
            let message = match P::Runtime::timeout(STALL, self.stream.message()).await {
                Ok(message) => message,
                Err(_) if self.sent.load(Ordering::Relaxed) <= self.received => continue,
                Err(_) => return Some(Err(self.peer.timeout(RPCTypes::AppendEntries, STALL).into())),
            };
            self.received += 1;
            return match message {
                Ok(None) if self.sent.load(Ordering::Relaxed) >= self.received => {
                    let text = format!("{}: ended the stream without answering", self.peer.name());
                    Some(Err(RPCError::Network(NetworkError::from_string(text))))
                }
                Ok(None) => None,
                Ok(Some(answer)) => {
                    Some(wire::append_result_from_wire(answer).map_err(|error| self.peer.malformed(error)))
                }
                Err(status) => Some(Err(self.peer.failed(&status))),
            };
        }
    }
}

impl<P: Platform> RaftNetworkV2<TypeConfig<P>> for Peer<P> {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig<P>>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig<P>>, RPCError<TypeConfig<P>>> {
        let last = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
        let wire = wire::append_request_to_wire(self.addressee(), &request);
        let client = self.client(Lane::Control)?;
        let beat = heartbeats::exchange(client.clone(), self.line.take(), wire);
        let (stream, answer) = self.call(RPCTypes::AppendEntries, option.hard_ttl(), beat).await?;
        let result = wire::append_result_from_wire(answer).map_err(|error| self.malformed(error))?;
        // After anything but a match the peer ends the stream.
        if result.is_ok() {
            self.line.keep_or_open::<P>(stream, client);
        }
        Ok(match result {
            Ok(matched) if matched != last => AppendEntriesResponse::PartialSuccess(matched),
            result => result.into(),
        })
    }

    // The default waits for each answer before it sends the next request.
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<
            BoxStream<'s, Result<StreamAppendResult<TypeConfig<P>>, RPCError<TypeConfig<P>>>>,
            RPCError<TypeConfig<P>>,
        >,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig<P>>> + OptionalSend + Unpin + 'static,
    {
        if self.heartbeats {
            return stream_append_sequential(self, input, option);
        }
        Box::pin(async move {
            // openraft waits between tries when it makes the next request, which a stream that cannot be opened never asks for:
            // without a pause of our own a peer that is down costs a processor.
            let opened = self.open_stream(input).await;
            if opened.is_err() {
                P::Runtime::sleep(UNREACHABLE_PAUSE).await;
            }
            let stream = futures::stream::unfold(Some(opened?), |answers| async move {
                let mut answers = answers?;
                let answer = answers.next().await?;
                if answer.is_err() {
                    P::Runtime::sleep(UNREACHABLE_PAUSE).await;
                }
                // After anything but a match the peer ends the stream.
                let more = matches!(answer, Ok(Ok(_))).then_some(answers);
                Some((answer, more))
            });
            let stream: BoxStream<'s, _> = Box::pin(stream);
            Ok(stream)
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig<P>>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig<P>>, RPCError<TypeConfig<P>>> {
        let mut client = self.client(Lane::Control)?;
        let request = wire::vote_request_to_wire(self.addressee(), &request);
        let response = self.call(RPCTypes::Vote, option.soft_ttl(), client.vote(request)).await?;
        wire::vote_response_from_wire(response).map_err(|error| self.malformed(error))
    }

    // The default grants everything, which turns Pre-Vote off. A peer that cannot be reached is an error, never a grant.
    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig<P>>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig<P>>, RPCError<TypeConfig<P>>> {
        let mut client = self.client(Lane::Control)?;
        let request = wire::vote_request_to_wire(self.addressee(), &request);
        let response = self.call(RPCTypes::Vote, option.soft_ttl(), client.pre_vote(request)).await?;
        wire::vote_response_from_wire(response).map_err(|error| self.malformed(error))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig<P>>, StreamingError<TypeConfig<P>>> {
        match P::Runtime::select2(cancel, self.send_snapshot(vote, snapshot, option)).await {
            Select2::First(closed) => Err(closed.into()),
            Select2::Second(result) => result,
        }
    }

    // The default refuses, and then nobody can write until the next election.
    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig<P>>,
        option: RPCOption,
    ) -> Result<openraft::raft::TransferLeaderResponse<TypeConfig<P>>, RPCError<TypeConfig<P>>> {
        // openraft tells every voter, and the message does not name the heir: whoever gets it stands for election. The
        // others hear of it by the heir's request for their votes, which overrides their lease.
        if *request.to_node_id() != self.raft_id {
            return Ok(Ok(()));
        }
        let mut client = self.client(Lane::Control)?;
        let wire = wire::transfer_request_to_wire(self.addressee(), &request);
        let response =
            self.call(RPCTypes::TransferLeader, option.soft_ttl(), client.transfer_leader(wire)).await?;
        if response.refusal.is_empty() {
            return Ok(Ok(()));
        }
        Err(RPCError::Network(NetworkError::from_string(format!("{}: {}", self.name(), response.refusal))))
    }
}
