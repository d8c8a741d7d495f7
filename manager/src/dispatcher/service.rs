//! The gRPC service for agents. The node is always the certificate's.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use coracle_model::digest::Digest;
use coracle_model::id::NodeId;
use coracle_pki::PeerIdentity;
use coracle_pki::ticket::Ticket;
use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1::dispatcher_server::Dispatcher as DispatcherService;
use coracle_proto::v1::{self, manager_message};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use prost::bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::session::{OUTBOX, Session, ticket_key};
use super::{Dispatcher, Term};
use crate::rpc::caller_node;
use crate::rpc::forward::{self, Destination};
use crate::store::now;

/// How long a ticket is good for, also to a node that is removed meanwhile. A blob that has begun goes on; whoever needs longer for
/// all of an image gets another ticket and goes on with what is missing.
const TICKET_LIFE: Duration = Duration::from_secs(600);
/// Images that one node may ask about at once.
const IMAGES_ASKED: usize = 1000;

/// The service.
#[derive(Debug, Clone)]
pub struct DispatcherApi(pub Arc<Dispatcher>);

impl DispatcherApi {
    fn term(&self) -> Result<Term, ApiError> {
        self.0.term().ok_or_else(|| ApiError::new(Reason::NotLeader, "this manager does not lead".to_owned()))
    }

    async fn leader_address(&self) -> String {
        match forward::destination(self.0.store().raft()).await {
            Ok(Destination::Leader(address)) => address,
            Ok(Destination::Here) | Err(_) => String::new(),
        }
    }

    fn ticket(&self, node: NodeId, digest: Digest) -> Result<v1::RequestImageResponse, ApiError> {
        let term = self.term()?;
        let view = self.0.store().view();
        let needed = view
            .tasks_on_node(node)
            .filter(|task| !task.status.state.is_terminal())
            .filter_map(|task| view.task_spec(task.service, task.spec_version))
            .any(|spec| spec.container.images().any(|image| image.digest == digest));
        if !needed {
            return Err(ApiError::new(
                Reason::Forbidden,
                format!("no task of node {node} needs the image {digest}"),
            ));
        }
        let expires_at = now().after(TICKET_LIFE).as_secs();
        let ticket = Ticket { node, manifest: *digest.as_bytes(), expires_at };
        let source = |holder: NodeId| {
            let address = view.node(holder)?.status.address.clone();
            Some(v1::ImageSource { node_id: holder.to_string(), address })
        };
        let mut sources: Vec<_> = term
            .registry
            .holders(digest)
            .into_iter()
            .filter(|holder| *holder != node)
            .filter_map(source)
            .collect();
        // Whoever asks begins elsewhere, so that the first holder does not serve the whole fleet.
        if !sources.is_empty() {
            let shift = rand::random_range(0..sources.len());
            sources.rotate_left(shift);
        }
        Ok(v1::RequestImageResponse {
            ticket: Bytes::copy_from_slice(&ticket_key(&view)?.sign(&ticket)),
            sources,
        })
    }
}

#[tonic::async_trait]
impl DispatcherService for DispatcherApi {
    type SessionStream = ReceiverStream<Result<v1::ManagerMessage, Status>>;
    type FetchVolumeStream = BoxStream<'static, Result<v1::VolumeChunk, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let node = caller_node(&request, "only nodes of the cluster call this")?;
        let certified = request.extensions().get::<PeerIdentity>().map(PeerIdentity::issued_at);
        let peer = request.extensions().get::<SocketAddr>().map(|peer| peer.ip().to_canonical());
        let (outbox, stream) = mpsc::channel(OUTBOX);
        match self.0.term() {
            Some(term) => {
                let session = Session::new(self.0.store().clone(), term, node, peer, certified, outbox);
                tokio::spawn(session.run(request.into_inner()));
            }
            None => {
                let redirect = v1::Redirect { leader: self.leader_address().await };
                let message =
                    v1::ManagerMessage { message: Some(manager_message::Message::Redirect(redirect)) };
                // The channel is empty: this cannot fail, and if the agent is gone nobody minds.
                let _ = outbox.try_send(Ok(message));
            }
        }
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn request_image(
        &self,
        request: Request<v1::RequestImageRequest>,
    ) -> Result<Response<v1::RequestImageResponse>, Status> {
        let node = caller_node(&request, "only nodes of the cluster call this")?;
        let digest: Digest = request
            .into_inner()
            .digest
            .parse()
            .map_err(|error| ApiError::new(Reason::Invalid, format!("digest: {error}")))?;
        Ok(Response::new(self.ticket(node, digest)?))
    }

    async fn check_images(
        &self,
        request: Request<v1::CheckImagesRequest>,
    ) -> Result<Response<v1::CheckImagesResponse>, Status> {
        caller_node(&request, "only nodes of the cluster call this")?;
        let asked = request.into_inner().digests;
        if asked.len() > IMAGES_ASKED {
            let message = format!("{} images are asked about, {IMAGES_ASKED} at most", asked.len());
            return Err(ApiError::new(Reason::TooLarge, message).into());
        }
        // What was named a moment ago must not be missing.
        let view = self.0.store().barrier().await?;
        let used =
            view.task_specs().flat_map(|(_, _, spec)| spec.container.images()).map(|image| image.digest);
        let wanted: BTreeSet<Digest> = view.images().map(|entry| entry.digest).chain(used).collect();
        let mut needed = Vec::new();
        for text in asked {
            let digest: Digest =
                text.parse().map_err(|error| ApiError::new(Reason::Invalid, format!("digest: {error}")))?;
            if wanted.contains(&digest) {
                needed.push(text);
            }
        }
        Ok(Response::new(v1::CheckImagesResponse { needed }))
    }

    async fn publish_logs(
        &self,
        request: Request<Streaming<v1::LogChunk>>,
    ) -> Result<Response<v1::PublishLogsResponse>, Status> {
        let node = caller_node(&request, "only nodes of the cluster call this")?;
        self.term()?.logs.publish(node, request.into_inner()).await?;
        Ok(Response::new(v1::PublishLogsResponse {}))
    }

    async fn publish_volume(
        &self,
        request: Request<Streaming<v1::VolumeChunk>>,
    ) -> Result<Response<v1::PublishVolumeResponse>, Status> {
        let node = caller_node(&request, "only nodes of the cluster call this")?;
        self.term()?.volumes.publish(node, request.into_inner()).await?;
        Ok(Response::new(v1::PublishVolumeResponse {}))
    }

    async fn fetch_volume(
        &self,
        request: Request<v1::FetchVolumeRequest>,
    ) -> Result<Response<Self::FetchVolumeStream>, Status> {
        let node = caller_node(&request, "only nodes of the cluster call this")?;
        let archive = self.term()?.volumes.fetch(node, &request.get_ref().id)?;
        Ok(Response::new(archive.boxed()))
    }
}
