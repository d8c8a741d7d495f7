//! How much of its disk a tree takes.

use std::collections::HashSet;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FileType, fstat, statat};
use rustix::io::Errno;

use crate::walk::{Agenda, names, open_directory};

/// What a tree takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeSize {
    /// Bytes of disk blocks: holes take none, and a file with several names is counted once.
    pub bytes: u64,
    /// Files, directories and links.
    pub inodes: u64,
}

/// Measures the tree below the directory `root`, without what is mounted in it. `is_stopped` is asked now and then whether to
/// end early; then there is no answer.
///
/// # Errors
/// If a directory cannot be read.
pub fn measure(root: BorrowedFd<'_>, is_stopped: &dyn Fn() -> bool) -> io::Result<Option<TreeSize>> {
    let device = fstat(root)?.st_dev;
    let mut size = TreeSize::default();
    let mut seen = HashSet::new();
    let mut agenda = Agenda::default();
    while let Some(path) = agenda.next() {
        let directory = match open_directory(root, &path) {
            // It went, or something else took its place.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => continue,
            result => result?,
        };
        let status = fstat(&directory)?;
        if status.st_dev != device {
            continue;
        }
        size.take(status.st_blocks);
        let mut below = Vec::new();
        for name in names(&directory)? {
            if is_stopped() {
                return Ok(None);
            }
            let status = match statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                result => result?,
            };
            if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
                below.push(name);
            } else if status.st_nlink == 1 || seen.insert(status.st_ino) {
                size.take(status.st_blocks);
            }
        }
        agenda.found(below);
    }
    Ok(Some(size))
}

impl TreeSize {
    /// Counts one inode, whose blocks are of 512 bytes, stat(2).
    fn take(&mut self, blocks: i64) {
        self.inodes += 1;
        self.bytes += u64::try_from(blocks).unwrap_or(0) * 512;
    }
}
