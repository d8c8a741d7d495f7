//! Replacing a small file so that a crash leaves either the old or the new content.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use coracle_disk::Storage;

use crate::SealError;

/// Makes two writers in one process use different temporary names.
static SEQUENCE: AtomicU64 = AtomicU64::new(0);

/// Writes `bytes` to the file `name`, readable by the owner only, durably and all or nothing.
///
/// The bytes go to a temporary file in the same directory, which is synced and renamed over `name`; then the
/// directory is synced, because a rename is durable only when the directory is (fsync(2)).
///
/// # Errors
/// [`SealError::File`] names the step that failed; the old content is then still there, unless only the last step,
/// syncing the directory, failed: then it is the old or the new one.
pub(crate) fn write_atomic(storage: &dyn Storage, name: &str, bytes: &[u8]) -> Result<(), SealError> {
    let sequence = SEQUENCE.fetch_add(1, Ordering::Relaxed);
    let temporary = format!("{name}.{}.{sequence}.tmp", std::process::id());
    let result = write_and_rename(storage, &temporary, name, bytes);
    if result.is_err() {
        // Best effort: a leftover temporary file does no harm, and the first error is the one to tell.
        let _ = storage.remove(&temporary);
    }
    result
}

fn write_and_rename(
    storage: &dyn Storage,
    temporary: &str,
    name: &str,
    bytes: &[u8],
) -> Result<(), SealError> {
    let failed = |operation, name: &str| SealError::file(operation, &storage.path().join(name));
    let file = match storage.create(temporary) {
        // Left by a process of the same number that was killed: in a container it often is the same.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            storage.remove(temporary).and_then(|()| storage.create(temporary))
        }
        created => created,
    };
    let file = file.map_err(failed("creating", temporary))?;
    file.write_all_at(0, bytes).map_err(failed("writing", temporary))?;
    file.sync_data().map_err(failed("syncing", temporary))?;
    drop(file);
    coracle_crash_point::crash_point!("seal.atomic.before-rename");
    storage.rename(temporary, name).map_err(failed("renaming into place", name))?;
    coracle_crash_point::crash_point!("seal.atomic.after-rename");
    storage.sync_directory().map_err(SealError::file("syncing directory", storage.path()))
}
