//! Gives images to other nodes.
//!
//! A ticket of the managers names one node and one manifest. Who shows it is who the connection's certificate says,
//! and it gets the blobs of that manifest and no others, even if it knows their digests.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use coracle_daemon::{Clock, ErrorChain};
use coracle_image::{BlobDescriptor, ImageError, ImageStore};
use coracle_model::digest::Digest;
use coracle_model::id::NodeId;
use coracle_pki::identity::PeerIdentity;
use coracle_pki::{TicketPublicKey, UnixTime};
use coracle_proto::v1;
use coracle_proto::v1::image_transfer_server::ImageTransfer;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tracing::warn;

use crate::image_use::ImageUses;
use crate::task::runner::blocking;

/// Bytes of one piece of a blob.
const PIECE: usize = 256 * 1024;
/// Pieces read ahead of the network.
const READ_AHEAD: usize = 2;
/// Blobs sent at a time; more callers wait.
const UPLOADS: usize = 16;
/// Blobs sent at a time to one node, so that no node keeps the others waiting.
const UPLOADS_TO_ONE: usize = 4;
/// Longest wait for a receiver to take a piece.
const TAKEN: Duration = Duration::from_secs(30);
/// Where a ticket has its manifest's digest (see `coracle_pki::ticket`).
const MANIFEST_IN_TICKET: std::ops::Range<usize> = 17..49;

/// The `ImageTransfer` service of this node.
#[derive(Debug, Clone)]
pub struct ImageTransferService {
    images: Arc<ImageStore>,
    uses: ImageUses,
    ticket_key: watch::Receiver<Option<TicketPublicKey>>,
    clock: Arc<dyn Clock>,
    uploads: Arc<Uploads>,
}

/// Who may send at a time.
#[derive(Debug)]
struct Uploads {
    all: Arc<Semaphore>,
    /// Only of nodes that wait or receive at the moment.
    of_node: Mutex<HashMap<NodeId, Weak<Semaphore>>>,
}

/// Held while a blob is sent: one of the node's and one of all.
#[derive(Debug)]
struct Upload {
    _of_node: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Uploads {
    fn new() -> Self {
        Self { all: Arc::new(Semaphore::new(UPLOADS)), of_node: Mutex::default() }
    }

    async fn acquire(&self, node: NodeId) -> Result<Upload, AcquireError> {
        // First the node's own: who waits for that must not hold one of all.
        let of_node = self.of_node(node).acquire_owned().await?;
        let of_all = Arc::clone(&self.all).acquire_owned().await?;
        Ok(Upload { _of_node: of_node, _of_all: of_all })
    }

    fn of_node(&self, node: NodeId) -> Arc<Semaphore> {
        let mut known = self.of_node.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(semaphore) = known.get(&node).and_then(Weak::upgrade) {
            return semaphore;
        }
        known.retain(|_, semaphore| semaphore.strong_count() > 0);
        let semaphore = Arc::new(Semaphore::new(UPLOADS_TO_ONE));
        known.insert(node, Arc::downgrade(&semaphore));
        semaphore
    }
}

impl ImageTransferService {
    pub(crate) fn new(
        images: Arc<ImageStore>,
        uses: ImageUses,
        ticket_key: watch::Receiver<Option<TicketPublicKey>>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { images, uses, ticket_key, clock, uploads: Arc::new(Uploads::new()) }
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
        let now = UnixTime::since_unix_epoch(Duration::from_nanos(self.clock.now()));
        key.verify(ticket, now, peer, &wanted)
            .map_err(|error| Status::permission_denied(error.to_string()))?;
        let manifest = Digest::from_bytes(wanted);
        self.uses.asked(manifest);
        Ok(manifest)
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
        let permit = self.uploads.acquire(peer(&request)?).await;
        let permit = permit.map_err(|_| Status::unavailable("this node is shutting down"))?;
        let images = Arc::clone(&self.images);
        let opened = blocking(move || images.blob_reader(digest)).await;
        let (file, size) = opened
            .ok_or_else(|| Status::internal("opening the blob panicked"))?
            .map_err(|error| not_readable(&error))?;
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        let (image, uses) = (self.uses.hold(Some(manifest)), self.uses.clone());
        tokio::spawn(async move {
            send(file, size, &sender).await;
            // The next blob is about to be asked for.
            uses.asked(manifest);
            drop((permit, image));
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// Reads until the end, until nobody receives, or until the receiver takes too long. No thread waits for it.
async fn send(mut file: File, size: u64, sender: &mpsc::Sender<Result<v1::BlobChunk, Status>>) {
    let piece = usize::try_from(size).unwrap_or(PIECE).clamp(1, PIECE);
    loop {
        let read = blocking(move || read_piece(&mut file, piece).map(|data| (file, data))).await;
        let message = match read {
            Some(Ok((_, data))) if data.is_empty() => return,
            Some(Ok((read_on, data))) => {
                file = read_on;
                Ok(v1::BlobChunk { data: Bytes::from(data) })
            }
            Some(Err(error)) => {
                let broken = Err(Status::unavailable(format!("blob cannot be read: {error}")));
                let _ = timeout(TAKEN, sender.send(broken)).await;
                return;
            }
            // It was logged.
            None => return,
        };
        // Dropping the sender closes the stream.
        if !matches!(timeout(TAKEN, sender.send(message)).await, Ok(Ok(()))) {
            return;
        }
    }
}

fn read_piece(file: &mut File, size: usize) -> std::io::Result<Vec<u8>> {
    let mut data = vec![0; size];
    let read = file.read(&mut data)?;
    data.truncate(read);
    Ok(data)
}
