//! What can go wrong when sealing, opening, or keeping the keys.

use std::io;
use std::path::PathBuf;

use crate::keyring::KeyId;

/// A sealing or opening that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The operating system's random number generator or the cipher refused to work.
    #[error("sealing failed inside the cryptographic library while {during}")]
    Cryptography {
        /// The step that failed.
        during: &'static str,
    },
    /// A sealed value is shorter than key id, nonce and tag together.
    #[error(
        "sealed value of {length} bytes is shorter than the {minimum} bytes every sealed value has: it was cut off"
    )]
    Short {
        /// Length found, in bytes.
        length: usize,
        /// Length of a sealed empty value, in bytes.
        minimum: usize,
    },
    /// The value was sealed by a key that is not in the ring.
    #[error(
        "value is sealed with data key {key_id}, which this node's keyring does not hold: the keyring belongs to another \
         node or is older than the data; restore the keyring that was saved together with this data"
    )]
    UnknownKey {
        /// The key id that the sealed value names.
        key_id: KeyId,
    },
    /// A file was sealed by a key that is not in the ring.
    #[error(
        "file {} is sealed with data key {key_id}, which this node's keyring does not hold: either the file is damaged, or \
         the keyring belongs to another node or is older than the file; restore both from the same backup, or remove the \
         node's data directory and let the node join again",
        path.display()
    )]
    KeyOfFile {
        /// The file.
        path: PathBuf,
        /// The key id that the file names.
        key_id: KeyId,
    },
    /// The authentication tag does not fit: damaged, moved elsewhere, or sealed by a different key of the same id.
    #[error(
        "value sealed with data key {key_id} does not authenticate: its bytes were changed, or it was sealed for another place"
    )]
    Damaged {
        /// The key id that the sealed value names.
        key_id: KeyId,
    },
    /// The keyring is wrapped by a different key than the one given.
    #[error("keyring {} is wrapped by another key: {hint}", path.display())]
    WrongWrappingKey {
        /// The keyring file.
        path: PathBuf,
        /// What the operator can do.
        hint: &'static str,
    },
    /// The keyring needs the operator's unlock key.
    #[error("keyring {} is locked: give the unlock key of this cluster", path.display())]
    Locked {
        /// The keyring file.
        path: PathBuf,
    },
    /// The wrapping key file is missing while the keyring is there.
    #[error(
        "wrapping key {} is missing, but the keyring it wraps is there: restore that file from a backup, or remove the \
         node's data directory and let the node join again",
        path.display()
    )]
    WrappingKeyMissing {
        /// Where the wrapping key should be.
        path: PathBuf,
    },
    /// A file of ours does not have the form that it must have.
    #[error("file {} is damaged ({what}): restore it from a backup, or remove the node's data directory and let the node join again", path.display())]
    DamagedFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The keyring was written by a later version of this program.
    #[error("file {} has format version {found}, this program reads up to {supported}: use the newer program", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Version found.
        found: u32,
        /// Newest version understood.
        supported: u32,
    },
    /// An unlock key that was typed in does not have the form of one.
    #[error("unlock key is malformed: expected CORKEY-1- followed by 64 hexadecimal digits")]
    MalformedUnlockKey,
    /// All 2^32 key ids are used.
    #[error("keyring is full: no key id is left")]
    Full,
    /// The ring lives in memory only and cannot be saved.
    #[error("keyring lives in memory only, so it cannot be {action}")]
    NotStored {
        /// What was asked for.
        action: &'static str,
    },
    /// A file operation failed.
    #[error("{operation} {} failed", path.display())]
    File {
        /// The operation, as in "writing".
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
}

impl SealError {
    /// Names a failed file operation.
    pub(crate) fn file(
        operation: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File { operation, path, source }
    }

    /// Whether the file that was to be read is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::File { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}
