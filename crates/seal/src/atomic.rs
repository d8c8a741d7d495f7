//! Replacing a small file so that a crash leaves either the old or the new content.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::SealError;

/// Makes two writers in one process use different temporary names.
static SEQUENCE: AtomicU64 = AtomicU64::new(0);

/// Writes `bytes` to `path` with permission bits `mode`, durably and all or nothing.
///
/// The bytes go to a temporary file in the same directory, which is synced and renamed over `path`; then the
/// directory is synced, because a rename is durable only when the directory is (fsync(2)).
///
/// # Errors
/// [`SealError::File`] names the step that failed; the old content of `path` is then still there.
pub fn write_atomic(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), SealError> {
    let temporary = temporary_name(path);
    let result = write_and_rename(&temporary, path, mode, bytes);
    if result.is_err() {
        // Best effort: a leftover temporary file does no harm, and the first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    result
}

fn write_and_rename(temporary: &Path, path: &Path, mode: u32, bytes: &[u8]) -> Result<(), SealError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(temporary)
        .map_err(SealError::file("creating", temporary))?;
    file.write_all(bytes).map_err(SealError::file("writing", temporary))?;
    file.sync_all().map_err(SealError::file("syncing", temporary))?;
    drop(file);
    fs::rename(temporary, path).map_err(SealError::file("renaming into place", path))?;
    sync_directory(parent(path))
}

/// Makes creations, renames and removals in `directory` durable.
///
/// # Errors
/// [`SealError::File`] when the directory cannot be opened or synced.
pub fn sync_directory(directory: &Path) -> Result<(), SealError> {
    File::open(directory)
        .and_then(|file| file.sync_all())
        .map_err(SealError::file("syncing directory", directory))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn temporary_name(path: &Path) -> PathBuf {
    let sequence = SEQUENCE.fetch_add(1, Ordering::Relaxed);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.{sequence}.tmp", std::process::id()));
    path.with_file_name(name)
}
