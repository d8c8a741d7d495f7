//! Unpacks one layer into a directory that overlayfs uses as a lower directory.
//!
//! Rules, each because somebody was hit by its absence:
//!
//! - Every parent is resolved by the kernel inside the layer's root (`openat2` with `RESOLVE_IN_ROOT`), so a link in the layer leads
//!   where the container would see it lead, never to the host. The last component is never followed.
//! - Files are made with `O_EXCL | O_NOFOLLOW`; owner, mode, attributes and times are set on the descriptor.
//! - Hard links lead only to regular files of the same layer, and are made from a descriptor.
//! - Whiteouts become what overlayfs reads: a character device 0:0, or the `trusted.overlay.opaque` attribute. Only this code makes those.
//! - Device nodes of a layer are left out (a container gets its devices from the runtime), and so are attributes other
//!   than `user.*` and `security.capability`.
//! - Modes and times of directories are set last, so that the order of entries does not matter.

pub(crate) mod attributes;
pub(crate) mod entry_path;
pub(crate) mod extractor;
pub(crate) mod root;
pub(crate) mod sparse;

use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;

use coracle_model::digest::Digest;

use crate::decompress::{Compression, Decompressed};
use crate::error::ImageError;
use crate::hash::HashingReader;
use crate::limits::Limits;
use crate::tar::TarReader;

/// What the names of an archive mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rules {
    /// A layer of an image: names that begin with `.wh.` hide what lower layers have.
    Layer,
    /// A tree of files: every name is a file's. Access control lists are kept.
    Tree,
}

/// What unpacking a layer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct UnpackReport {
    /// Entries read, of all kinds.
    pub(crate) entries: u64,
    /// Bytes of file data written.
    pub(crate) bytes: u64,
    /// Device nodes and unknown whiteout markers that were left out.
    pub(crate) entries_left_out: u64,
    /// Extended attributes that were left out.
    pub(crate) attributes_left_out: u64,
}

/// A layer on disk, not yet installed.
#[derive(Debug)]
pub(crate) struct Unpacked {
    pub(crate) report: UnpackReport,
    /// The digest of the uncompressed archive.
    pub(crate) diff_id: Digest,
    pub(crate) compression: Compression,
}

/// Unpacks the layer `source` (any supported compression) into the existing empty directory `root`. On an error `root` holds a part.
pub(crate) fn unpack_layer(
    source: impl Read,
    root: &Path,
    place: &str,
    limits: &Limits,
) -> Result<Unpacked, ImageError> {
    let decompressed = Decompressed::new(source, place, limits)?;
    let compression = decompressed.compression();
    let mut archive = TarReader::new(HashingReader::new(decompressed), place, limits);
    let mut extractor = extractor::Extractor::new(root, Rules::Layer, place, limits)?;
    while let Some(entry) = archive.next_entry()? {
        extractor.apply(entry, &mut archive)?;
    }
    let (diff_id, _) = archive.drain()?.finish();
    let report = extractor.finish()?;
    if report.entries_left_out + report.attributes_left_out > 0 {
        tracing::debug!(
            layer = place,
            entries = report.entries_left_out,
            attributes = report.attributes_left_out,
            "left out of the layer"
        );
    }
    Ok(Unpacked { report, diff_id, compression })
}

/// Unpacks an archive of a tree (any supported compression, sparse files too) into the existing empty directory `root`. On an
/// error `root` holds a part.
pub(crate) fn unpack_tree(
    source: impl Read,
    root: &Path,
    place: &str,
    limits: &Limits,
) -> Result<UnpackReport, ImageError> {
    let mut archive =
        TarReader::new(Decompressed::new(source, place, limits)?, place, limits).with_sparse_files();
    let mut extractor = extractor::Extractor::new(root, Rules::Tree, place, limits)?;
    while let Some(entry) = archive.next_entry()? {
        extractor.apply(entry, &mut archive)?;
    }
    if !archive.is_marked() {
        return Err(archive.malformed("it ends without an end marker: it is not whole"));
    }
    archive.drain()?;
    extractor.finish()
}

/// Writes everything of the file system of `directory` to disk: one call instead of one per file.
pub(crate) fn sync_file_system(directory: &Path) -> Result<(), ImageError> {
    let failed = |error| ImageError::io("syncing", directory, error);
    let handle = std::fs::File::open(directory).map_err(failed)?;
    rustix::fs::syncfs(handle.as_fd()).map_err(|error| failed(error.into()))
}
