//! Archives of whole trees of files, such as volumes: packing one without following a link, unpacking it with the
//! discipline of layers, copying one into another place.
//!
//! An archive has owners, modes, times with nanoseconds, user attributes, file capabilities, access control lists, hard and
//! symbolic links, pipes, and sparse files as such. It is what `tar` reads and writes (POSIX pax; GNU's sparse format 1.0).
//! Device nodes and sockets are left out, as is what is mounted below the tree.

mod content;
mod label;
mod measure;
mod pack;

use std::io::{self, BufWriter, Read};
use std::os::fd::BorrowedFd;
use std::path::Path;

use crate::error::ImageError;
use crate::limits::Limits;
use crate::unpack::{UnpackReport, unpack_tree};

pub use label::set_label;
pub use measure::{TreeSize, measure};
pub use pack::{PackError, pack};

pub use crate::unpack::root::retry;

/// What was packed, unpacked or copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeReport {
    /// Files, directories, links and pipes.
    pub entries: u64,
    /// Bytes of file data, without holes.
    pub bytes: u64,
    /// Device nodes, sockets and contents of other file systems that were left out.
    pub left_out: u64,
    /// Extended attributes that were not unpacked: trees do not have them, or the file system does not keep them. Who may do
    /// what is narrowed where an access control list is among them.
    pub attributes_left_out: u64,
    /// Files that somebody changed, so that they may be neither the old nor the new ones.
    pub changed: u64,
}

impl From<UnpackReport> for TreeReport {
    fn from(report: UnpackReport) -> Self {
        let UnpackReport { entries, bytes, entries_left_out, attributes_left_out } = report;
        Self { entries, bytes, left_out: entries_left_out, attributes_left_out, changed: 0 }
    }
}

/// Why a tree was not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// It cannot be read.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// It cannot be written.
    #[error(transparent)]
    Unpack(#[from] ImageError),
}

/// Unpacks an archive (plain, gzip or zstd) into the existing empty directory `root`; `place` names it in errors. Nothing
/// is written outside of `root`, whatever the archive says. On an error `root` holds a part.
///
/// # Errors
/// What is wrong with the archive or the disk; [`ImageError::Input`] when the reader failed.
pub fn unpack(
    source: impl Read,
    root: &Path,
    place: &str,
    limits: &Limits,
) -> Result<TreeReport, ImageError> {
    unpack_tree(source, root, place, limits).map(TreeReport::from)
}

/// Copies the tree below the directory `source` into the existing empty directory `root`, itself included: owner, mode,
/// attributes and time of the directory become those of `root`.
///
/// # Errors
/// If one cannot be read or the other not be written; `root` holds a part then.
pub fn copy(source: BorrowedFd<'_>, root: &Path, limits: &Limits) -> Result<TreeReport, CopyError> {
    let (reader, writer) = io::pipe().map_err(PackError::Sink)?;
    let (packed, unpacked) = std::thread::scope(|scope| {
        let packing =
            scope.spawn(move || pack(source, BufWriter::with_capacity(64 << 10, writer), &|| false));
        let unpacked = unpack(reader, root, "copy", limits);
        (packing.join(), unpacked)
    });
    match (packed, unpacked) {
        // Whoever cannot go on closes its end of the pipe, and the other one fails too: the first cause counts.
        (Ok(Err(error)), _) if !matches!(error, PackError::Sink(_)) => Err(error.into()),
        (_, Err(error)) => Err(error.into()),
        (Ok(packed), Ok(report)) => Ok(TreeReport { changed: packed?.changed, ..report }),
        (Err(_), Ok(_)) => Err(PackError::Sink(io::Error::other("the thread that reads panicked")).into()),
    }
}

#[cfg(test)]
mod tests;
