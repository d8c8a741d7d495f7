//! Brings the images that tasks need.
//!
//! Tasks that need the same image share one fetch; it ends when the last of them no longer waits. A manager says who
//! has the image and gives the ticket; the blobs come from the first of those nodes that gives them whole. Whatever
//! a node sends is verified by digest before anything is made of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coracle_daemon::{Backoff, BackoffPolicy, ErrorChain};
use coracle_image::{BlobWriter, ErrorClass, ImageError, ImageStore};
use coracle_model::digest::Digest;
use coracle_model::id::NodeId;
use coracle_pki::SwappableIdentity;
use coracle_pki::tls::{ExpectedServer, client_config};
use coracle_proto::v1;
use coracle_proto::v1::dispatcher_client::DispatcherClient;
use coracle_proto::v1::image_transfer_client::ImageTransferClient;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared, WeakShared};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout};
use tonic::Code;
use tonic::transport::Channel;
use tracing::{debug, info};

use crate::task::runner::blocking;

/// How long managers may say that no node gives an image before its tasks are rejected. Time without a manager
/// does not count.
const PATIENCE: Duration = Duration::from_secs(60);
/// Waits between tries.
const RETRY: BackoffPolicy = BackoffPolicy { first: Duration::from_millis(200), max: Duration::from_secs(5) };
/// Longest wait for an answer, or for the next piece of a blob.
const ANSWER: Duration = Duration::from_secs(10);
/// Bytes in a second that a source sends at least, on average after so long: a slower one is left for another, so that it does
/// not hold one of the few slots for as long as it likes.
const SLOWEST: (u64, Duration) = (64 << 10, Duration::from_secs(30));
/// Images fetched at a time.
const FETCHES: usize = 3;
/// Bytes of a manifest at most, which is all of an image whose size only a source says.
const MANIFEST: u64 = 4 << 20;

type Outcome = Result<(), String>;

/// One fetch, as each of those who wait for it sees it.
pub(crate) struct Fetch {
    /// Ends when the image is here, or cannot be had.
    pub(crate) done: Shared<BoxFuture<'static, Outcome>>,
    /// How it goes, for the operator.
    pub(crate) progress: watch::Receiver<String>,
}

struct UnderWay {
    done: WeakShared<BoxFuture<'static, Outcome>>,
    progress: watch::Receiver<String>,
}

/// Fetches images; clones share what is under way.
#[derive(Clone)]
pub(crate) struct Fetcher {
    shared: Arc<Inner>,
}

struct Inner {
    images: Arc<ImageStore>,
    identity: SwappableIdentity,
    /// The manager of the present session.
    manager: watch::Receiver<Option<Channel>>,
    /// Counts changes of what this node holds.
    held: watch::Sender<u64>,
    slots: Semaphore,
    under_way: Mutex<HashMap<Digest, UnderWay>>,
}

/// Why a try did not bring the image.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("no manager can be reached")]
    NoManager,
    /// Another try may have another end.
    #[error("{0}")]
    Temporary(String),
    /// No other try will.
    #[error("{0}")]
    Final(String),
}

impl Fetcher {
    pub(crate) fn new(
        images: Arc<ImageStore>,
        identity: SwappableIdentity,
        manager: watch::Receiver<Option<Channel>>,
        held: watch::Sender<u64>,
    ) -> Self {
        let slots = Semaphore::new(FETCHES);
        Self {
            shared: Arc::new(Inner { images, identity, manager, held, slots, under_way: Mutex::default() }),
        }
    }

    /// Has the image here, fetching it unless that is under way or done.
    pub(crate) fn ensure(&self, manifest: Digest) -> Fetch {
        let mut under_way = self.shared.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = under_way.get(&manifest)
            && let Some(done) = known.done.upgrade()
        {
            return Fetch { done, progress: known.progress.clone() };
        }
        under_way.retain(|_, known| known.done.upgrade().is_some());
        let (teller, progress) = watch::channel(String::new());
        let inner = Arc::clone(&self.shared);
        let done = async move { inner.fetch(manifest, &teller).await }.boxed().shared();
        if let Some(weak) = done.downgrade() {
            under_way.insert(manifest, UnderWay { done: weak, progress: progress.clone() });
        }
        Fetch { done, progress }
    }
}

impl Inner {
    async fn fetch(&self, manifest: Digest, progress: &watch::Sender<String>) -> Outcome {
        if self.has(manifest).await {
            return Ok(());
        }
        let mut backoff = Backoff::new(RETRY);
        let mut refused_since = None;
        loop {
            let began = Instant::now();
            let error = match self.attempt(manifest, progress).await {
                Ok(()) => {
                    self.held.send_modify(|count| *count += 1);
                    info!(image = %manifest, "image is here");
                    return Ok(());
                }
                Err(FetchError::Final(error)) => return Err(error),
                Err(error) => error,
            };
            // Without a manager nothing is known, so nothing is given up.
            refused_since = match error {
                FetchError::NoManager => None,
                // It got somewhere, until its ticket was too old or its source was gone.
                _ if began.elapsed() >= PATIENCE => Some(Instant::now()),
                _ => refused_since.or(Some(Instant::now())),
            };
            if refused_since.is_some_and(|since| since.elapsed() >= PATIENCE) {
                return Err(format!("image {manifest} cannot be had: {error}"));
            }
            debug!(image = %manifest, %error, "image was not fetched");
            progress.send_replace(format!("waiting for the image: {error}"));
            let mut manager = self.manager.clone();
            manager.mark_unchanged();
            tokio::select! {
                () = tokio::time::sleep(backoff.next_delay(rand::random())) => {}
                // A new session is a reason to ask at once; an image may also be loaded here meanwhile.
                _ = manager.changed(), if matches!(error, FetchError::NoManager) => {}
            }
            if self.has(manifest).await {
                return Ok(());
            }
        }
    }

    async fn has(&self, manifest: Digest) -> bool {
        let images = Arc::clone(&self.images);
        blocking(move || images.has(manifest)).await.unwrap_or(false)
    }

    async fn attempt(&self, manifest: Digest, progress: &watch::Sender<String>) -> Result<(), FetchError> {
        let channel = self.manager.borrow().clone().ok_or(FetchError::NoManager)?;
        // The semaphore is never closed.
        let _slot = self.slots.acquire().await;
        let request = v1::RequestImageRequest { digest: manifest.to_string() };
        let response = timeout(ANSWER, DispatcherClient::new(channel).request_image(request)).await;
        let response = match response {
            Err(_) => return Err(FetchError::NoManager),
            Ok(Err(status)) => return Err(refusal(&status)),
            Ok(Ok(response)) => response.into_inner(),
        };
        if response.sources.is_empty() {
            return Err(FetchError::Temporary("no ready node has it".to_owned()));
        }
        let mut problems = Vec::new();
        for source in &response.sources {
            progress.send_replace(format!("fetching the image from {}", source.address));
            match self.fetch_from(manifest, source, &response.ticket).await {
                Ok(()) => return Ok(()),
                Err(error @ FetchError::Final(_)) => return Err(error),
                Err(error) => problems.push(format!("{}: {error}", source.address)),
            }
        }
        Err(FetchError::Temporary(problems.join("; ")))
    }

    async fn fetch_from(
        &self,
        manifest: Digest,
        source: &v1::ImageSource,
        ticket: &bytes::Bytes,
    ) -> Result<(), FetchError> {
        let mut client = self.connect(source).await?;
        let request = v1::ListBlobsRequest { ticket: ticket.clone() };
        let listed = in_time(client.list_blobs(request)).await?.into_inner().blobs;
        let size = manifest_size(&listed, manifest)?;
        if !self.has_blob(manifest, size).await {
            self.fetch_blob(&mut client, manifest, size, ticket).await?;
        }
        // Which blobs there are, and how large, is what the manifest says, whose digest is known: not the source.
        let images = Arc::clone(&self.images);
        let blobs = blocking(move || images.manifest_blobs(manifest)).await;
        let blobs = blobs
            .ok_or_else(|| FetchError::Final("reading the manifest panicked".to_owned()))?
            .map_err(unpacking)?;
        for blob in blobs {
            if !self.has_blob(blob.digest, blob.size).await {
                self.fetch_blob(&mut client, blob.digest, blob.size, ticket).await?;
            }
        }
        let images = Arc::clone(&self.images);
        let finished = blocking(move || images.finish_fetch(manifest, &[])).await;
        finished
            .ok_or_else(|| FetchError::Final("unpacking the image panicked".to_owned()))?
            .map(drop)
            .map_err(unpacking)
    }

    async fn connect(&self, source: &v1::ImageSource) -> Result<ImageTransferClient<Channel>, FetchError> {
        let temporary = |error: &dyn std::error::Error| FetchError::Temporary(error.to_string());
        let node: NodeId =
            source.node_id.parse().map_err(|error| FetchError::Temporary(format!("{error}")))?;
        let tls =
            client_config(&self.identity, ExpectedServer::Node(node)).map_err(|error| temporary(&error))?;
        let channel = coracle_rpc::connect::channel(&source.address, Arc::new(tls)).await;
        let channel = channel.map_err(|error| FetchError::Temporary(ErrorChain(&error).to_string()))?;
        Ok(ImageTransferClient::new(channel))
    }

    async fn has_blob(&self, digest: Digest, size: u64) -> bool {
        let images = Arc::clone(&self.images);
        blocking(move || images.has_blob(digest, size)).await.unwrap_or(false)
    }

    async fn fetch_blob(
        &self,
        client: &mut ImageTransferClient<Channel>,
        digest: Digest,
        size: u64,
        ticket: &bytes::Bytes,
    ) -> Result<(), FetchError> {
        let request = v1::FetchBlobRequest { ticket: ticket.clone(), digest: digest.to_string() };
        let mut stream = in_time(client.fetch_blob(request)).await?.into_inner();
        let images = Arc::clone(&self.images);
        let mut writer = on_disk(move || images.begin(digest, size)).await?;
        let begun = Instant::now();
        while let Some(piece) = in_time(stream.message()).await? {
            writer = on_disk(move || write(writer, &piece.data)).await?;
            if is_too_slow(writer.received(), begun.elapsed()) {
                return Err(FetchError::Temporary(format!(
                    "it sends less than {} bytes in a second",
                    SLOWEST.0
                )));
            }
        }
        on_disk(move || writer.commit()).await
    }
}

fn is_too_slow(received: u64, elapsed: Duration) -> bool {
    let counted = elapsed.saturating_sub(SLOWEST.1).as_secs();
    counted > 0 && received < counted.saturating_mul(SLOWEST.0)
}

fn manifest_size(listed: &[v1::Blob], manifest: Digest) -> Result<u64, FetchError> {
    let name = manifest.to_string();
    let size = listed.iter().find(|blob| blob.digest == name).map(|blob| blob.size);
    match size {
        Some(size) if size <= MANIFEST => Ok(size),
        Some(size) => Err(FetchError::Temporary(format!("it says that the manifest has {size} bytes"))),
        None => Err(FetchError::Temporary("it does not list the manifest".to_owned())),
    }
}

fn write(mut writer: BlobWriter, piece: &[u8]) -> Result<BlobWriter, ImageError> {
    writer.write(piece).map(|()| writer)
}

/// What the store refuses of one node another may send right; a full disk may be cleared.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, FetchError> {
    let done =
        blocking(work).await.ok_or_else(|| FetchError::Temporary("storing the image panicked".to_owned()))?;
    done.map_err(|error| FetchError::Temporary(ErrorChain(&error).to_string()))
}

/// All blobs have the right digests by now, so what is wrong with them is wrong on every node.
fn unpacking(error: ImageError) -> FetchError {
    let text = ErrorChain(&error).to_string();
    match error.class() {
        ErrorClass::BadInput if !matches!(error, ImageError::MissingBlob { .. }) => {
            FetchError::Final(format!("image is unusable: {text}"))
        }
        _ => FetchError::Temporary(text),
    }
}

async fn in_time<T>(call: impl Future<Output = Result<T, tonic::Status>>) -> Result<T, FetchError> {
    match timeout(ANSWER, call).await {
        Err(_) => Err(FetchError::Temporary("it did not answer in time".to_owned())),
        Ok(Err(status)) => Err(FetchError::Temporary(status.message().to_owned())),
        Ok(Ok(answer)) => Ok(answer),
    }
}

fn refusal(status: &tonic::Status) -> FetchError {
    match status.code() {
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DeadlineExceeded => FetchError::NoManager,
        _ => FetchError::Temporary(format!("manager says: {}", status.message())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_only_trickles_is_left() {
        let slow = |received, seconds| is_too_slow(received, Duration::from_secs(seconds));
        assert!(!slow(0, 30), "it may take a while to begin");
        assert!(slow(0, 31));
        assert!(slow(3600, 3600), "one byte in a second");
        assert!(!slow(60 << 16, 90));
        assert!(slow(59 << 16, 90));
        assert!(!slow(u64::MAX, u64::MAX / 2));
    }
}
