//! Content on disk.
//!
//! ```text
//! DIRECTORY/                    0700, one process at a time (lock)
//!   lock
//!   tmp/                        under construction; emptied at open
//!   blobs/sha256/HEX            manifests, configurations, layers as transferred
//!   layers/HEX/fs               one unpacked layer, by the digest of its uncompressed archive; a lower directory of overlayfs
//!   layers/HEX/layer.json       written before the layer is installed: without it the layer does not count
//!   images/HEX.json             records of complete images, by manifest digest
//!   empty/                      the lower directory of images without layers
//! ```
//!
//! **Invariant:** everything is made in `tmp/`, synced, and renamed into place, in the order blobs, layers, record. So a record exists only
//! when all it names did, and what a crash leaves is either complete or in `tmp/`. Parts that were deleted behind the
//! store's back make an image absent, never wrong.
//!
//! **Boundary:** [`ImageStore::collect`] may run at any time; images that are being fetched or run are named in its `keep`.

pub(crate) mod blobs;
pub(crate) mod collect;
pub(crate) mod images;
pub(crate) mod layers;
pub(crate) mod records;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock, TryLockError};
use std::time::{Duration, Instant};

use coracle_model::digest::Digest;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::document::platform::Platform;
use crate::error::ImageError;
use crate::limits::Limits;
use crate::spool::{TemporaryDirectory, create_private_directory};

pub use blobs::{BlobDescriptor, BlobWriter};
pub use collect::{Collected, DiskUsage};
pub use images::PreparedImage;
pub use records::{ImageRecord, LayerRecord};

/// Wait between tries to collect while content is added.
const COLLECT_AGAIN: Duration = Duration::from_millis(20);

/// The images of one node. Cheap to clone; all methods may be called from several threads.
#[derive(Clone, Debug)]
pub struct ImageStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    limits: Limits,
    platform: Platform,
    temporary: TemporaryDirectory,
    /// Shared by whoever adds content that nothing refers to yet, exclusive for collecting garbage.
    activity: RwLock<()>,
    /// Serialises changes of records and the installation of layers.
    changes: Mutex<()>,
    /// When images were last loaded or fetched since the store was opened.
    completed: Mutex<BTreeMap<Digest, Instant>>,
    /// Held as long as the store is open.
    _lock: File,
}

impl ImageStore {
    /// Opens the store in `directory`, making it when it is not there, with default limits.
    ///
    /// # Errors
    /// [`ImageError::Busy`] when another process has it open; [`ImageError::Io`] when the directory cannot be used.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self, ImageError> {
        Self::open_with(directory, Limits::default(), Platform::host())
    }

    /// As [`ImageStore::open`], with other limits or for another platform.
    ///
    /// # Errors
    /// As [`ImageStore::open`].
    pub fn open_with(
        directory: impl AsRef<Path>,
        limits: Limits,
        platform: Platform,
    ) -> Result<Self, ImageError> {
        let given = directory.as_ref();
        create_private_directory(given)?;
        // Lower directories are used from elsewhere: their paths must not depend on the working directory.
        let root = given.canonicalize().map_err(|error| ImageError::io("resolving", given, error))?;
        let lock = lock(&root)?;
        for part in ["blobs/sha256", "layers", "images", "empty"] {
            create_private_directory(&root.join(part))?;
        }
        let temporary = TemporaryDirectory::open(root.join("tmp"), limits.disk_reserve_bytes)?;
        make_traversable(&root.join("empty"))?;
        let inner = Inner {
            root,
            limits,
            platform,
            temporary,
            activity: RwLock::new(()),
            changes: Mutex::new(()),
            completed: Mutex::default(),
            _lock: lock,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The bounds on what is taken in.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// The platform images are chosen for.
    pub fn platform(&self) -> &Platform {
        &self.inner.platform
    }

    pub(crate) fn temporary(&self) -> &TemporaryDirectory {
        &self.inner.temporary
    }

    fn path(&self, part: &str) -> PathBuf {
        self.inner.root.join(part)
    }

    /// Taken while content is added that nothing refers to yet.
    pub(crate) fn adding(&self) -> std::sync::RwLockReadGuard<'_, ()> {
        // The lock guards no data that a panic could have left half-changed.
        self.inner.activity.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Waits until nothing is added. Whoever waits for such a lock keeps all that come later from adding, however long those that
    /// were there take: so it is only tried for, now and then.
    fn collecting(&self) -> std::sync::RwLockWriteGuard<'_, ()> {
        loop {
            match self.inner.activity.try_write() {
                Ok(guard) => return guard,
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => std::thread::sleep(COLLECT_AGAIN),
            }
        }
    }

    /// Notes that an image was loaded or fetched.
    fn note_completed(&self, manifest: Digest) {
        self.completed().insert(manifest, Instant::now());
    }

    fn was_completed_within(&self, manifest: Digest, time: Duration) -> bool {
        self.completed().get(&manifest).is_some_and(|at| at.elapsed() < time)
    }

    fn completed(&self) -> std::sync::MutexGuard<'_, BTreeMap<Digest, Instant>> {
        self.inner.completed.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn changing(&self) -> std::sync::MutexGuard<'_, ()> {
        self.inner.changes.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn lock(root: &Path) -> Result<File, ImageError> {
    let path = root.join("lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|error| ImageError::io("opening", &path, error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(ImageError::Busy { path: root.to_owned() }),
        Err(error) => Err(ImageError::io("locking", &path, error)),
    }
}

/// The empty layer becomes the root directory of containers, which every user in them enters.
fn make_traversable(path: &Path) -> Result<(), ImageError> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
        .map_err(|error| ImageError::io("setting the mode of", path, error))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::mpsc;

    use super::*;

    /// One image may take minutes to be unpacked, and others must not wait for it because of who collects.
    #[test]
    fn who_waits_to_collect_keeps_nobody_from_adding() {
        let folder = tempfile::tempdir().unwrap();
        let store = ImageStore::open(folder.path()).unwrap();
        let long = store.adding();
        let (added, adding) = mpsc::channel();
        std::thread::scope(|scope| {
            let store = &store;
            let collected = scope.spawn(move || store.collect(&BTreeSet::new()));
            scope.spawn(move || {
                for _ in 0..50 {
                    drop(store.adding());
                    // Time for the other one to begin to wait.
                    std::thread::sleep(Duration::from_millis(2));
                }
                added.send(()).unwrap();
            });
            let in_time = adding.recv_timeout(Duration::from_secs(20));
            assert!(!collected.is_finished());
            drop(long);
            collected.join().unwrap().unwrap();
            in_time.unwrap();
        });
    }
}
