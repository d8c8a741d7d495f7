//! Frees the disk of images that nobody needs any more.
//!
//! One task, woken by its timer. An image goes when no task of this node has it and nobody fetches it from here for as
//! long as the grace, and the leader says that neither the image table names it nor a service or task of the cluster
//! is made of it. Without an answer of the leader everything stays. Content that belongs to no image, as what a fetch
//! left that was given up, goes with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use coracle_daemon::ErrorChain;
use coracle_image::{ImageError, ImageStore};
use coracle_model::digest::Digest;
use coracle_proto::v1;
use coracle_proto::v1::dispatcher_client::DispatcherClient;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tracing::{debug, info, warn};

use crate::image_use::ImageUses;
use crate::task::runner::blocking;

/// How long an image stays after its last use, unless the node is told otherwise.
pub const IMAGE_GRACE: Duration = Duration::from_secs(3600);
/// Bounds of the time between looks, which is a quarter of the grace.
const LOOK: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(15 * 60));
/// Longest wait for the leader's answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Images asked about at a time.
const ASKED_AT_ONCE: usize = 1000;

/// See the module.
pub(crate) struct Collector {
    pub(crate) images: Arc<ImageStore>,
    pub(crate) uses: ImageUses,
    pub(crate) grace: Duration,
    /// The manager of the present session.
    pub(crate) manager: watch::Receiver<Option<Channel>>,
    /// Counts changes of what this node holds.
    pub(crate) held: watch::Sender<u64>,
}

impl Collector {
    /// Looks now and then, until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut unused_since = BTreeMap::new();
        let mut looks = tokio::time::interval((self.grace / 4).clamp(LOOK.0, LOOK.1));
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = looks.tick() => {}
            }
            // What is under way when the daemon ends may be left at any point.
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.look(&mut unused_since) => {}
            }
        }
    }

    async fn look(&self, unused_since: &mut BTreeMap<Digest, Instant>) {
        let now = Instant::now();
        let images = Arc::clone(&self.images);
        let known = match blocking(move || images.known()).await {
            Some(Ok(known)) => known,
            Some(Err(error)) => {
                warn!(error = %ErrorChain(&error), "images cannot be listed: none is removed");
                return;
            }
            None => return,
        };
        let Some(used) = self.uses.images() else {
            unused_since.clear();
            return;
        };
        unused_since.retain(|image, _| known.contains(image) && !used.contains(image));
        for image in known.difference(&used) {
            unused_since.entry(*image).or_insert(now);
        }
        let over = unused_since.iter().filter(|(_, since)| now - **since >= self.grace);
        let over: Vec<Digest> = over.map(|(image, _)| *image).take(ASKED_AT_ONCE).collect();
        let unwanted = if over.is_empty() { BTreeSet::new() } else { self.unneeded(over).await };
        self.remove(unwanted).await;
    }

    /// Which of these the cluster does not need; none when the leader does not answer.
    async fn unneeded(&self, images: Vec<Digest>) -> BTreeSet<Digest> {
        let Some(channel) = self.manager.borrow().clone() else { return BTreeSet::new() };
        let digests = images.iter().map(ToString::to_string).collect();
        let mut client = DispatcherClient::new(channel);
        let call = client.check_images(v1::CheckImagesRequest { digests });
        match timeout(ANSWER, call).await {
            Ok(Ok(answer)) => {
                let needed: BTreeSet<String> = answer.into_inner().needed.into_iter().collect();
                images.into_iter().filter(|image| !needed.contains(&image.to_string())).collect()
            }
            Ok(Err(status)) => {
                debug!(message = status.message(), "the leader does not say which images are needed");
                BTreeSet::new()
            }
            Err(_) => BTreeSet::new(),
        }
    }

    async fn remove(&self, unwanted: BTreeSet<Digest>) {
        let (images, uses, grace) = (Arc::clone(&self.images), self.uses.clone(), self.grace);
        match blocking(move || remove(&images, &uses, &unwanted, grace)).await {
            Some(Ok(Some(Removed { images: 0, .. }) | None)) | None => {}
            Some(Ok(Some(removed))) => {
                info!(images = removed.images, bytes = removed.bytes, "removed images that nobody needs");
                self.held.send_modify(|count| *count += 1);
            }
            Some(Err(error)) => warn!(error = %ErrorChain(&error), "images could not be removed"),
        }
    }
}

/// What was removed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Removed {
    pub(crate) images: u64,
    /// Of them and of what belonged to no image.
    pub(crate) bytes: u64,
}

/// Removes those of the images that are not in use and were not loaded or fetched within the grace, and what belongs to
/// no image; nothing when it is not known what is in use.
pub(crate) fn remove(
    store: &ImageStore,
    uses: &ImageUses,
    unwanted: &BTreeSet<Digest>,
    grace: Duration,
) -> Result<Option<Removed>, ImageError> {
    // Only the records go while nobody can begin to use an image: that is quick. Who wants one of them from then on
    // fetches it, and tries again if its content goes meanwhile.
    let forgotten = uses.removing(|used| {
        let unwanted: BTreeSet<Digest> = unwanted.difference(used).copied().collect();
        Ok((store.forget(&unwanted, grace)?, used.clone()))
    });
    let Some((images, used)) = forgotten.transpose()? else { return Ok(None) };
    let collected = store.collect(&used)?;
    Ok(Some(Removed { images, bytes: collected.bytes }))
}

#[cfg(test)]
mod tests;
