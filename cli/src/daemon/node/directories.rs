//! The directories of a node: its own, and only for one daemon at a time.

use std::fs::File;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rustix::fs::{FlockOperation, flock};

/// Makes a directory that only root enters; gives its absolute path.
///
/// # Errors
/// If the disk refuses.
pub(super) fn private_directory(path: &Path) -> anyhow::Result<PathBuf> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("making {}", path.display()))?;
    let path = path.canonicalize().with_context(|| format!("finding {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700))
        .with_context(|| format!("closing {} to others", path.display()))?;
    Ok(path)
}

/// Takes a directory for this process alone.
///
/// # Errors
/// If another daemon has it.
pub(super) fn lock(directory: &Path, flag: &str) -> anyhow::Result<File> {
    let path = directory.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("opening {}", path.display()))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        bail!("another coracle daemon uses {}; stop it first, or give another {flag}", directory.display());
    }
    Ok(file)
}

/// Deletes what belongs to a membership, except the images, which only an agent can tell from those in use.
///
/// # Errors
/// If the disk refuses.
pub(super) fn forget(data_directory: &Path) -> anyhow::Result<()> {
    for name in ["raft", "agent"] {
        let path = data_directory.join(name);
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing {}", path.display()));
            }
            _ => {}
        }
        coracle_crash_point::crash_point!("leave.after-raft");
    }
    Ok(())
}
