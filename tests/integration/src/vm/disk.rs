//! Disks that outlive machines.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::process;

/// Makes an image of this many MiB with an empty ext4 file system. It takes as much room as is written to it.
///
/// # Errors
/// When it cannot be written, or `mkfs.ext4` (Debian package e2fsprogs) is missing or fails.
pub fn create(path: &Path, mebibytes: u64) -> Result<()> {
    let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
    file.set_len(mebibytes << 20).with_context(|| format!("{mebibytes} MiB for {}", path.display()))?;
    let program =
        if Path::new("/usr/sbin/mkfs.ext4").is_file() { "/usr/sbin/mkfs.ext4" } else { "mkfs.ext4" };
    process::output(Command::new(program).args(["-q", "-F"]).arg(path))?;
    Ok(())
}

/// Looks whether the file system holds together, as the next start of the machine would: its journal is replayed first.
///
/// # Errors
/// When it does not.
pub fn check(path: &Path) -> Result<()> {
    let program = if Path::new("/usr/sbin/e2fsck").is_file() { "/usr/sbin/e2fsck" } else { "e2fsck" };
    // Status 1: something was corrected, which replaying the journal counts as.
    let status = Command::new(program).args(["-p", "-f"]).arg(path).output().context("start e2fsck")?;
    anyhow::ensure!(
        matches!(status.status.code(), Some(0 | 1)),
        "{}: {}",
        path.display(),
        String::from_utf8_lossy(&status.stdout)
    );
    Ok(())
}
