//! The one error type of the crate, and its classes.

use std::io;
use std::path::{Path, PathBuf};

use coracle_model::digest::Digest;
use thiserror::Error;

use crate::document::platform::Platform;

/// What a caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The content is damaged, hostile or not what it says: trying again with the same bytes gives the same answer.
    BadInput,
    /// What was asked for is not here (or not completely): fetch or load it.
    Absent,
    /// The reader given by the caller failed: the transfer may be tried again.
    Input,
    /// The disk is full, or would be below its reserve: free space, then try again.
    NoSpace,
    /// Another process holds the store.
    Busy,
    /// The local disk or kernel refused an operation.
    Io,
}

/// The bounds of [`crate::Limits`], named for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LimitKind {
    /// Entries of one layer.
    Entries,
    /// Bytes a compressed stream becomes.
    UncompressedBytes,
    /// Uncompressed bytes per compressed byte.
    CompressionRatio,
    /// Bytes of a path or link target.
    PathBytes,
    /// Components of a path.
    PathDepth,
    /// Bytes of extended attributes of one entry.
    EntryAttributeBytes,
    /// Bytes of extended attributes of one layer.
    LayerAttributeBytes,
    /// Bytes of one extended header of a tar archive.
    ExtendedHeaderBytes,
    /// Members of an image archive.
    Members,
    /// Bytes of a JSON document.
    DocumentBytes,
    /// Layers of an image.
    Layers,
    /// Bytes of one blob.
    BlobBytes,
}

impl LimitKind {
    fn unit(self) -> &'static str {
        match self {
            Self::Entries => "entries",
            Self::UncompressedBytes => "uncompressed bytes",
            Self::CompressionRatio => "uncompressed bytes per compressed byte",
            Self::PathBytes => "bytes in a path",
            Self::PathDepth => "components in a path",
            Self::EntryAttributeBytes => "bytes of extended attributes on one entry",
            Self::LayerAttributeBytes => "bytes of extended attributes in one layer",
            Self::ExtendedHeaderBytes => "bytes in an extended header",
            Self::Members => "members in an image archive",
            Self::DocumentBytes => "bytes in a JSON document",
            Self::Layers => "layers in an image",
            Self::BlobBytes => "bytes in one blob",
        }
    }
}

/// Why one entry of a layer is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// A `..` component.
    #[error("its path has a '..' component")]
    ParentTraversal,
    /// A leading slash.
    #[error("its path is absolute")]
    AbsolutePath,
    /// A NUL byte in a path or target.
    #[error("its path or target has a NUL byte")]
    NulByte,
    /// No name where one is needed.
    #[error("it has no name")]
    EmptyName,
    /// A component longer than file systems allow.
    #[error("its path has a component longer than 255 bytes")]
    ComponentTooLong,
    /// A symbolic link without, or with an unusable, target.
    #[error("its link target is empty")]
    EmptyTarget,
    /// A file type no layer has.
    #[error("its type flag {0:?} is unknown")]
    UnknownType(char),
    /// A sparse file.
    #[error("it is a sparse file; pack the archive without sparse files")]
    Sparse,
    /// Access control lists that only the system with their users' names can read.
    #[error(
        "it has access control lists as text, which cannot be kept: pack the archive with `tar --xattrs`"
    )]
    TextLists,
    /// A sparse file whose map of holes cannot be.
    #[error("its map of holes is malformed: {0}")]
    SparseMap(&'static str),
    /// Data where the type has none.
    #[error("it is not a regular file but has {0} bytes of data")]
    UnexpectedData(u64),
    /// A parent that is a file.
    #[error("its parent is not a directory")]
    ParentNotDirectory,
    /// A parent link that leads out, nowhere, or in a circle.
    #[error("its parent is a symbolic link that leads nowhere inside the layer")]
    ParentLink,
    /// A non-directory in place of a directory of the same layer.
    #[error("it would replace a directory of the same layer")]
    ReplacesDirectory,
    /// A hard link to nothing.
    #[error("its hard link target {0:?} is not in the layer")]
    LinkTargetMissing(String),
    /// A hard link to a directory, device, link.
    #[error("its hard link target {0:?} is not a regular file")]
    LinkTargetType(String),
    /// A hard link target outside of the layer by its spelling.
    #[error("its hard link target {target:?} is refused: {why}")]
    LinkTargetPath {
        /// The target as written.
        target: String,
        /// The rule it breaks.
        why: Box<Refusal>,
    },
    /// A whiteout that is not an empty file named `.wh.NAME`.
    #[error("it is not a valid whiteout: {0}")]
    Whiteout(&'static str),
    /// An owner no kernel accepts.
    #[error("its owner or group {0} is out of range")]
    Owner(u64),
    /// A capability attribute the kernel refuses.
    #[error("its security.capability attribute is malformed")]
    CapabilityAttribute,
    /// An extended attribute name that is unusable.
    #[error("its extended attribute {0:?} has an invalid name")]
    AttributeName(String),
    /// The root itself as something else than a directory.
    #[error("it names the root of the layer but is not a directory")]
    RootNotDirectory,
}

/// Everything that can go wrong with images. Use [`ImageError::class`] to decide what to do.
#[derive(Debug, Error)]
pub enum ImageError {
    /// The stream is no image archive.
    #[error("archive is not an image: {reason}")]
    NotAnImage {
        /// What was looked for and not found.
        reason: String,
    },
    /// The tar structure is broken.
    #[error("{place} is not a valid tar archive: {reason} (at byte {offset})")]
    Tar {
        /// Which archive or layer.
        place: String,
        /// What is wrong.
        reason: String,
        /// Uncompressed offset of the header at fault.
        offset: u64,
    },
    /// One entry is refused; nothing of the layer is kept.
    #[error("entry {entry:?} of {place} is refused: {refusal}")]
    Entry {
        /// Which layer.
        place: String,
        /// The entry's path, with unprintable bytes escaped.
        entry: String,
        /// The rule it breaks.
        refusal: Refusal,
    },
    /// A bound was exceeded; reading stopped there.
    #[error("{place} exceeds the limit of {allowed} {}", kind.unit())]
    Limit {
        /// Which archive, layer, document or entry.
        place: String,
        /// The bound.
        kind: LimitKind,
        /// Its value.
        allowed: u64,
    },
    /// Compressed data does not decompress.
    #[error("{place} does not decompress: {reason}")]
    Compression {
        /// Which archive or layer.
        place: String,
        /// What the decoder says.
        reason: String,
    },
    /// A JSON document is malformed or breaks a rule.
    #[error("{document} is invalid: {reason}")]
    Document {
        /// Which document.
        document: String,
        /// The field and the rule.
        reason: String,
    },
    /// A field of an image configuration is unusable.
    #[error("image configuration has an invalid {field}: {reason}")]
    Config {
        /// The field, as spelt in the document.
        field: &'static str,
        /// Value and rule.
        reason: String,
    },
    /// Content is not what its digest says.
    #[error(
        "{what} has the digest {actual}, expected {expected}; the content was damaged or replaced on the way"
    )]
    DigestMismatch {
        /// Which content.
        what: String,
        /// The digest it is known by.
        expected: Digest,
        /// The digest of the bytes that came.
        actual: Digest,
    },
    /// Content has another size than announced.
    #[error("blob {digest} has {actual} bytes, expected {expected}")]
    SizeMismatch {
        /// The blob.
        digest: Digest,
        /// Announced bytes.
        expected: u64,
        /// Bytes that came (at least).
        actual: u64,
    },
    /// No manifest of the archive is for this platform.
    #[error("image is not for {wanted}; it offers {offered}; build or save it for {wanted}")]
    Platform {
        /// The platform of this machine.
        wanted: Platform,
        /// What there is.
        offered: String,
    },
    /// Something valid that is not supported, by name.
    #[error("{what} is not supported: {instead}")]
    Unsupported {
        /// What.
        what: String,
        /// What to do.
        instead: String,
    },
    /// A blob an image needs is not in the store or archive.
    #[error("blob {digest} ({what}) is missing; load or fetch the image again")]
    MissingBlob {
        /// The blob.
        digest: Digest,
        /// Its part in the image.
        what: &'static str,
    },
    /// The image is not in the store, or not completely.
    #[error("image {manifest} is not on this node; load or fetch it")]
    ImageAbsent {
        /// The manifest digest.
        manifest: Digest,
    },
    /// The stream given by the caller failed.
    #[error("reading {place}")]
    Input {
        /// Which stream.
        place: String,
        /// The reader's error.
        source: io::Error,
    },
    /// The disk is full.
    #[error("no space left for {}: free some space there", path.display())]
    NoSpace {
        /// What was to be written.
        path: PathBuf,
        /// The kernel's error, when it was the kernel who refused.
        source: Option<io::Error>,
    },
    /// The store is open elsewhere.
    #[error("image store {} is in use by another process", path.display())]
    Busy {
        /// The store's directory.
        path: PathBuf,
    },
    /// The local disk or kernel refused an operation.
    #[error("{action} {}", path.display())]
    Io {
        /// What was attempted, in the form "writing".
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl ImageError {
    /// What a caller can do about it.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NotAnImage { .. }
            | Self::Tar { .. }
            | Self::Entry { .. }
            | Self::Limit { .. }
            | Self::Compression { .. }
            | Self::Document { .. }
            | Self::Config { .. }
            | Self::DigestMismatch { .. }
            | Self::SizeMismatch { .. }
            | Self::Platform { .. }
            | Self::Unsupported { .. } => ErrorClass::BadInput,
            Self::MissingBlob { .. } | Self::ImageAbsent { .. } => ErrorClass::Absent,
            Self::Input { .. } => ErrorClass::Input,
            Self::NoSpace { .. } => ErrorClass::NoSpace,
            Self::Busy { .. } => ErrorClass::Busy,
            Self::Io { .. } => ErrorClass::Io,
        }
    }

    /// An operation on a local path failed. Full disks and exhausted quotas get their own class.
    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        let (path, source) = (path.as_ref().to_owned(), source.into());
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpace { path, source: Some(source) }
            }
            _ => Self::Io { action, path, source },
        }
    }

    /// The limit `kind` was exceeded in `place`.
    pub(crate) fn limit(place: impl Into<String>, kind: LimitKind, allowed: u64) -> Self {
        Self::Limit { place: place.into(), kind, allowed }
    }

    /// A document breaks a rule.
    pub(crate) fn document(document: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Document { document: document.into(), reason: reason.into() }
    }

    /// A configuration field breaks a rule.
    pub(crate) fn config(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Config { field, reason: reason.into() }
    }

    /// Carries the error through [`std::io::Read`]; [`ImageError::from_read`] takes it out again.
    pub(crate) fn into_io(self) -> io::Error {
        io::Error::other(self)
    }

    /// The error a chain of readers of ours gave: the typed one when there is one inside, else `otherwise`.
    pub(crate) fn from_read(error: io::Error, otherwise: impl FnOnce(io::Error) -> Self) -> Self {
        if !error.get_ref().is_some_and(|inner| inner.is::<Self>()) {
            return otherwise(error);
        }
        match error.into_inner().map(|inner| inner.downcast::<Self>()) {
            Some(Ok(inner)) => *inner,
            Some(Err(inner)) => otherwise(io::Error::other(inner)),
            None => otherwise(io::ErrorKind::Other.into()),
        }
    }
}

/// Bytes of an archive for a message: printable, and not longer than a line or two.
pub(crate) fn printable(bytes: &[u8]) -> String {
    const SHOWN: usize = 160;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN)]).into_owned();
    if bytes.len() > SHOWN { text + "…" } else { text }
}
