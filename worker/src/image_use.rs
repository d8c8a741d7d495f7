//! Which images are in use on this node, so that no image is removed under a container or a transfer.
//!
//! Whoever needs an image holds an [`ImageUse`]; the collector removes images only under the same lock
//! ([`ImageUses::removing`]). After [`ImageUses::close`] nothing is removed any more: the agent ends, and its
//! containers go on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coracle_model::digest::Digest;
use tokio::time::Instant;

/// How long an image that another node asked for counts as used: it asks blob by blob.
const BETWEEN_BLOBS: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct Inner {
    held: BTreeMap<Digest, usize>,
    /// Containers whose image nobody knows: any image may be theirs.
    unknown: usize,
    asked: BTreeMap<Digest, Instant>,
    closed: bool,
}

/// Which images are in use; clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct ImageUses(Arc<Mutex<Inner>>);

/// Keeps an image, or all of them, from being removed.
#[derive(Debug)]
pub(crate) struct ImageUse {
    uses: ImageUses,
    image: Option<Digest>,
}

impl ImageUses {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps this image while the answer is kept; without one, every image.
    pub(crate) fn hold(&self, image: Option<Digest>) -> ImageUse {
        let mut inner = self.inner();
        match image {
            Some(image) => *inner.held.entry(image).or_default() += 1,
            None => inner.unknown += 1,
        }
        ImageUse { uses: self.clone(), image }
    }

    /// Another node asks for this image and is likely to ask for more of it.
    pub(crate) fn asked(&self, image: Digest) {
        self.inner().asked.insert(image, Instant::now());
    }

    /// From now on nothing is removed.
    pub(crate) fn close(&self) {
        self.inner().closed = true;
    }

    /// The images in use; none when that cannot be said, so that all must be kept.
    pub(crate) fn images(&self) -> Option<BTreeSet<Digest>> {
        self.inner().images()
    }

    /// Does something while nobody begins to use an image. Gets the images in use.
    pub(crate) fn removing<T>(&self, remove: impl FnOnce(&BTreeSet<Digest>) -> T) -> Option<T> {
        let mut inner = self.inner();
        let used = inner.images()?;
        Some(remove(&used))
    }
}

impl Inner {
    fn images(&mut self) -> Option<BTreeSet<Digest>> {
        if self.closed || self.unknown > 0 {
            return None;
        }
        self.asked.retain(|_, at| at.elapsed() < BETWEEN_BLOBS);
        Some(self.held.keys().chain(self.asked.keys()).copied().collect())
    }
}

impl Drop for ImageUse {
    fn drop(&mut self) {
        let mut inner = self.uses.inner();
        match self.image {
            None => inner.unknown = inner.unknown.saturating_sub(1),
            Some(image) => {
                if let Some(count) = inner.held.get_mut(&image) {
                    *count -= 1;
                    if *count == 0 {
                        inner.held.remove(&image);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Digest = Digest::from_bytes([1; 32]);

    fn used(uses: &ImageUses) -> Option<Vec<Digest>> {
        uses.images().map(|images| images.into_iter().collect())
    }

    #[test]
    fn an_image_is_used_as_long_as_somebody_holds_it() {
        let uses = ImageUses::default();
        let (first, second) = (uses.hold(Some(ONE)), uses.hold(Some(ONE)));
        drop(first);
        assert_eq!(used(&uses), Some(vec![ONE]));
        drop(second);
        assert_eq!(used(&uses), Some(Vec::new()));
    }

    #[test]
    fn while_a_container_of_an_unknown_image_is_there_nothing_is_removed() {
        let uses = ImageUses::default();
        let unknown = uses.hold(None);
        assert_eq!(uses.removing(|_| ()), None);
        drop(unknown);
        assert_eq!(uses.removing(BTreeSet::len), Some(0));
        uses.close();
        assert_eq!(uses.removing(|_| ()), None);
    }

    #[test]
    fn an_image_that_another_node_asked_for_is_used_for_a_while() {
        let uses = ImageUses::default();
        uses.asked(ONE);
        assert_eq!(used(&uses), Some(vec![ONE]));
        let before = Instant::now().checked_sub(BETWEEN_BLOBS).unwrap();
        uses.inner().asked.insert(ONE, before);
        assert_eq!(used(&uses), Some(Vec::new()));
    }
}
