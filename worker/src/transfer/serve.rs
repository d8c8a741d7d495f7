//! Gives images to other nodes.
//!
//! A ticket of the managers names one node and one manifest. Who shows it is who the connection's certificate says,
//! and it gets the blobs of that manifest and no others, even if it knows their digests.

use std::fs::File;
use std::io::Read as _;
use std::sync::Arc;

use bytes::Bytes;
use coracle_daemon::{Clock, ErrorChain};
use coracle_image::{BlobDescriptor, ImageError, ImageStore};
use coracle_model::digest::Digest;
use coracle_model::id::NodeId;
use coracle_pki::identity::PeerIdentity;
use coracle_pki::{TicketPublicKey, UnixTime};
use coracle_proto::v1;
use coracle_proto::v1::image_transfer_server::ImageTransfer;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tracing::warn;

use crate::task::runner::blocking;

/// Bytes of one piece of a blob.
const PIECE: usize = 256 * 1024;
/// Pieces read ahead of the network.
const READ_AHEAD: usize = 2;
/// Blobs sent at a time; more callers wait.
const UPLOADS: usize = 16;
/// Where a ticket has its manifest's digest (see `coracle_pki::ticket`).
const MANIFEST_IN_TICKET: std::ops::Range<usize> = 17..49;

/// The `ImageTransfer` service of this node.
#[derive(Debug, Clone)]
pub struct ImageTransferService {
    images: Arc<ImageStore>,
    ticket_key: watch::Receiver<Option<TicketPublicKey>>,
    clock: Arc<dyn Clock>,
    uploads: Arc<Semaphore>,
}

impl ImageTransferService {
    pub(crate) fn new(
        images: Arc<ImageStore>,
        ticket_key: watch::Receiver<Option<TicketPublicKey>>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { images, ticket_key, clock, uploads: Arc::new(Semaphore::new(UPLOADS)) }
    }

    /// The manifest that the caller may fetch.
    fn authorize<T>(&self, request: &Request<T>, ticket: &[u8]) -> Result<Digest, Status> {
        let peer = peer(request)?;
        let key = *self.ticket_key.borrow();
        let key = key.ok_or_else(|| {
            Status::unavailable("this node has not heard from a manager yet: try another one")
        })?;
        let wanted: [u8; 32] = ticket
            .get(MANIFEST_IN_TICKET)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| Status::permission_denied("image ticket is too short"))?;
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_nanos(self.clock.now()));
        key.verify(ticket, now, peer, &wanted)
            .map_err(|error| Status::permission_denied(error.to_string()))?;
        Ok(Digest::from_bytes(wanted))
    }

    async fn blobs(&self, manifest: Digest) -> Result<Vec<BlobDescriptor>, Status> {
        let images = Arc::clone(&self.images);
        blocking(
            move || if images.has(manifest) { images.manifest_blobs(manifest).map(Some) } else { Ok(None) },
        )
        .await
        .ok_or_else(|| Status::internal("reading the image panicked"))?
        .map_err(|error| not_readable(&error))?
        .ok_or_else(|| Status::not_found(format!("image {manifest} is not on this node")))
    }
}

fn peer<T>(request: &Request<T>) -> Result<NodeId, Status> {
    let identity = request.extensions().get::<PeerIdentity>();
    identity
        .and_then(PeerIdentity::node)
        .ok_or_else(|| Status::unauthenticated("only nodes of the cluster fetch images"))
}

fn not_readable(error: &ImageError) -> Status {
    warn!(error = %ErrorChain(error), "an image of this node cannot be given to another");
    Status::unavailable(format!("image cannot be read on this node: {}", ErrorChain(error)))
}

#[tonic::async_trait]
impl ImageTransfer for ImageTransferService {
    async fn list_blobs(
        &self,
        request: Request<v1::ListBlobsRequest>,
    ) -> Result<Response<v1::ListBlobsResponse>, Status> {
        let manifest = self.authorize(&request, &request.get_ref().ticket)?;
        let blobs = self.blobs(manifest).await?.into_iter().map(|blob| v1::Blob {
            digest: blob.digest.to_string(),
            size: blob.size,
            media_type: blob.media_type,
        });
        Ok(Response::new(v1::ListBlobsResponse { blobs: blobs.collect() }))
    }

    type FetchBlobStream = ReceiverStream<Result<v1::BlobChunk, Status>>;

    async fn fetch_blob(
        &self,
        request: Request<v1::FetchBlobRequest>,
    ) -> Result<Response<Self::FetchBlobStream>, Status> {
        let manifest = self.authorize(&request, &request.get_ref().ticket)?;
        let wanted = &request.get_ref().digest;
        let digest: Digest = wanted.parse().map_err(|error| Status::invalid_argument(format!("{error}")))?;
        if !self.blobs(manifest).await?.iter().any(|blob| blob.digest == digest) {
            return Err(Status::permission_denied(format!("blob {digest} is not one of image {manifest}")));
        }
        let permit = Arc::clone(&self.uploads).acquire_owned().await;
        let permit = permit.map_err(|_| Status::unavailable("this node is shutting down"))?;
        let images = Arc::clone(&self.images);
        let opened = blocking(move || images.blob_reader(digest)).await;
        let (file, size) = opened
            .ok_or_else(|| Status::internal("opening the blob panicked"))?
            .map_err(|error| not_readable(&error))?;
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        tokio::task::spawn_blocking(move || {
            send(file, size, &sender);
            drop(permit);
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// Reads until the end or until nobody receives.
fn send(mut file: File, size: u64, sender: &mpsc::Sender<Result<v1::BlobChunk, Status>>) {
    let piece = usize::try_from(size).unwrap_or(PIECE).clamp(1, PIECE);
    loop {
        let mut data = vec![0; piece];
        let message = match file.read(&mut data) {
            Ok(0) => return,
            Ok(read) => {
                data.truncate(read);
                Ok(v1::BlobChunk { data: Bytes::from(data) })
            }
            Err(error) => Err(Status::unavailable(format!("blob cannot be read: {error}"))),
        };
        let last = message.is_err();
        if sender.blocking_send(message).is_err() || last {
            return;
        }
    }
}
