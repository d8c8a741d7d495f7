//! Secrets and configs on this node.
//!
//! [`Shelf`]: what managers have sent for the tasks of this node, in memory only: never in the journal, never on a disk, and
//! forgotten as soon as no task needs it. A runner that misses something waits for a manager to send it.
//! [`content`]: what of it one task is given, with placeholders filled in.
//! [`mounted`]: what containers see of it as files.

pub(crate) mod content;
pub(crate) mod mounted;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coracle_model::id::FileId;
use coracle_model::secret::FileReference;
use coracle_proto::v1;
use tokio::sync::watch;
use zeroize::Zeroizing;

/// One version of a secret or a config.
pub(crate) type Key = (FileId, u64);

type Data = Arc<Zeroizing<Vec<u8>>>;

/// What managers sent of one version.
#[derive(Clone)]
struct Sent {
    data: Data,
    /// It has placeholders.
    template: bool,
}

/// A file that a container is to see.
#[derive(Clone, PartialEq, Eq)]
pub struct LaunchFile {
    /// Absolute path in the container.
    pub target: String,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
    /// What it contains.
    data: Data,
}

impl LaunchFile {
    /// What it contains: every caller of this is a place to look at in a review.
    pub(crate) fn reveal(&self) -> &[u8] {
        &self.data
    }
}

impl std::fmt::Debug for LaunchFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("LaunchFile");
        shown.field("target", &self.target).field("uid", &self.uid).field("gid", &self.gid);
        shown.field("mode", &self.mode).finish_non_exhaustive()
    }
}

/// What this node has; clones are the same shelf.
#[derive(Clone)]
pub(crate) struct Shelf {
    contents: Arc<Mutex<BTreeMap<Key, Sent>>>,
    /// Counts what arrives.
    arrivals: Arc<watch::Sender<u64>>,
}

impl Default for Shelf {
    fn default() -> Self {
        Self { contents: Arc::default(), arrivals: Arc::new(watch::Sender::new(0)) }
    }
}

impl std::fmt::Debug for Shelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shelf").field("held", &self.held()).finish_non_exhaustive()
    }
}

impl Shelf {
    /// Takes what a manager sends.
    ///
    /// # Errors
    /// If its name cannot be read.
    pub(crate) fn put(&self, file: v1::AssignedFile) -> Result<(), String> {
        let id = file.file.parse().map_err(|error| format!("secret or config: {error}"))?;
        let sent = Sent { data: Arc::new(Zeroizing::new(file.data.to_vec())), template: file.template };
        self.lock().insert((id, file.content), sent);
        self.arrivals.send_modify(|count| *count += 1);
        Ok(())
    }

    /// The first of these that is not here.
    pub(crate) fn missing(&self, keys: &BTreeSet<Key>) -> Option<Key> {
        let contents = self.lock();
        keys.iter().find(|key| !contents.contains_key(key)).copied()
    }

    /// Forgets everything but these.
    pub(crate) fn keep_only(&self, keys: &BTreeSet<Key>) {
        self.lock().retain(|key, _| keys.contains(key));
    }

    /// What is here, by name.
    pub(crate) fn held(&self) -> BTreeSet<Key> {
        self.lock().keys().copied().collect()
    }

    /// Ends when all that these references need is here.
    pub(crate) fn arrived(&self, references: &[FileReference]) -> impl Future<Output = ()> + Send + use<> {
        let (shelf, keys) = (self.clone(), keys(references));
        let mut arrivals = self.arrivals.subscribe();
        async move {
            while shelf.missing(&keys).is_some() {
                // The shelf itself holds the sender.
                if arrivals.changed().await.is_err() {
                    return;
                }
            }
        }
    }

    /// Whether all that these references need is here.
    pub(crate) fn has(&self, references: &[FileReference]) -> bool {
        self.missing(&keys(references)).is_none()
    }

    /// What managers sent for a reference.
    ///
    /// # Errors
    /// If it is not here: for the operator.
    fn sent(&self, reference: &FileReference) -> Result<Sent, String> {
        let sent = self.lock().get(&(reference.file, reference.content)).cloned();
        sent.ok_or_else(|| {
            let (kind, name) = (reference.kind, reference.name.as_str());
            format!("{kind} {name:?} is not on this node: no manager has sent it")
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Sent>> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keys(references: &[FileReference]) -> BTreeSet<Key> {
    references.iter().map(|reference| (reference.file, reference.content)).collect()
}

/// Reads which versions a message says that this node needs.
pub(crate) fn needed(set: &v1::AssignedFileSet) -> Result<BTreeSet<Key>, String> {
    let key = |key: &v1::AssignedFileKey| {
        let id = key.file.parse().map_err(|error| format!("secret or config: {error}"))?;
        Ok((id, key.content))
    };
    set.files.iter().map(key).collect()
}

#[cfg(test)]
mod tests;
