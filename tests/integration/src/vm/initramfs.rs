//! The archive that the kernel unpacks as its first root file system: cpio in the "newc" format
//! (kernel: Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};

/// Type bits of a folder and of a regular file (`stat(2)`).
const FOLDER: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;

/// An archive in the making.
#[derive(Debug, Default)]
pub struct Initramfs {
    bytes: Vec<u8>,
    folders: BTreeSet<String>,
    /// Number of the last file; none is 0, and no two are alike, or the kernel would link them.
    number: u32,
}

impl Initramfs {
    /// One without files.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file of root's at a path without the leading slash, and the folders above it.
    ///
    /// # Errors
    /// When it has 4 GiB or more.
    pub fn add(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        for (end, _) in path.match_indices('/') {
            if self.folders.insert(path[..end].to_owned()) {
                self.entry(&path[..end], FOLDER | 0o755, &[])?;
            }
        }
        self.entry(path, REGULAR | mode, content)
    }

    /// The whole archive.
    ///
    /// # Errors
    /// Never for an archive that files could be added to.
    pub fn finish(mut self) -> Result<Vec<u8>> {
        self.entry("TRAILER!!!", 0, &[])?;
        Ok(self.bytes)
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        let size = u32::try_from(content.len())
            .with_context(|| format!("{name} has {} bytes: too many for a cpio archive", content.len()))?;
        let name_size = u32::try_from(name.len() + 1).context("a path of more than 4 GiB")?;
        self.number += 1;
        let links = if mode & FOLDER == FOLDER { 2 } else { 1 };
        // Number, mode, user, group, links, time, size, device (2), device of a device file (2), name's size, checksum.
        let fields = [self.number, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
        Ok(())
    }

    /// Names and contents begin at multiples of four bytes.
    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn busybox_unpacks_what_is_written() {
        let mut archive = Initramfs::new();
        archive.add("init", 0o755, b"#!/bin/sh\n").unwrap();
        archive.add("lib/deep/file", 0o600, b"content").unwrap();
        archive.add("lib/deep/empty", 0o644, b"").unwrap();
        let bytes = archive.finish().unwrap();
        let folder = std::env::temp_dir().join(format!("coracle-initramfs-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut child = Command::new("/bin/busybox")
            .args(["cpio", "-idm"])
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        assert!(child.wait().unwrap().success());
        let read = |path: &str| std::fs::read(folder.join(path)).unwrap();
        assert_eq!(read("init"), b"#!/bin/sh\n");
        assert_eq!(read("lib/deep/file"), b"content");
        assert_eq!(read("lib/deep/empty"), b"");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
