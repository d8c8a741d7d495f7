//! What can go wrong with the log.

use std::io;
use std::path::Path;
use std::sync::Arc;

use coracle_seal::SealError;

/// A failed operation of the log.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum WalError {
    /// Something that had been confirmed as durable is gone or changed.
    #[error(
        "log file {file} is damaged at byte {offset}: {what}; records up to {confirmed} had been confirmed as durable, so \
         starting now could forget a vote or an acknowledged write: restore this manager's data from a copy of the disk, or \
         remove its data directory and let it join again as a new manager"
    )]
    Damaged {
        /// The file, relative to the log's directory.
        file: String,
        /// Where in the file.
        offset: u64,
        /// What is wrong there.
        what: String,
        /// Sequence number of the last record known to have been durable.
        confirmed: u64,
    },
    /// The files do not form one log.
    #[error(
        "log is incomplete: {what}; restore this manager's data, or remove its data directory and let it join again"
    )]
    Incomplete {
        /// What is missing.
        what: String,
    },
    /// Written by a later version of this program.
    #[error(
        "log file {file} has format version {found}, this program reads up to {supported}: use the newer program"
    )]
    NewerFormat {
        /// The file, relative to the log's directory.
        file: String,
        /// Version found.
        found: u32,
        /// Newest version understood.
        supported: u32,
    },
    /// A record could not be sealed or opened.
    #[error("sealing or opening record {sequence} failed")]
    Seal {
        /// Sequence number of the record.
        sequence: u64,
        /// Why.
        source: Arc<SealError>,
    },
    /// The storage refused.
    #[error("{operation} {file} failed")]
    Storage {
        /// The operation, as in "writing".
        operation: &'static str,
        /// The file, relative to the log's directory while it is opened.
        file: String,
        /// The operating system's answer.
        source: Arc<io::Error>,
    },
    /// An earlier write failed, so the log takes no more.
    #[error("log stopped taking writes after an earlier failure: restart the process")]
    Stopped {
        /// The first failure.
        source: Arc<WalError>,
    },
    /// The log was closed.
    #[error("log is closed")]
    Closed,
    /// Entries were to be appended that do not follow the last one.
    #[error("entry {index} cannot be appended: the next index is {expected}")]
    NotConsecutive {
        /// Index that was given.
        index: u64,
        /// Index that has to come next.
        expected: u64,
    },
    /// Entries were asked for that are not there.
    #[error("entry {index} is not in the log, which holds {first} to before {next}")]
    NotHeld {
        /// Index that was asked for.
        index: u64,
        /// First index held.
        first: u64,
        /// Index after the last one held.
        next: u64,
    },
    /// An entry is too large for a record.
    #[error("entry {index} has {length} bytes, a record takes up to {limit}")]
    TooLarge {
        /// Index of the entry.
        index: u64,
        /// Length of its payload, in bytes.
        length: usize,
        /// Longest payload, in bytes.
        limit: usize,
    },
}

impl WalError {
    /// Names a failed storage operation.
    pub(crate) fn storage(operation: &'static str, file: &str) -> impl FnOnce(io::Error) -> Self + use<> {
        let file = file.to_owned();
        move |source| Self::Storage { operation, file, source: Arc::new(source) }
    }

    /// Names the directory of the file too, for whoever sees only this error.
    pub(crate) fn located(self, directory: &Path) -> Self {
        match self {
            Self::Storage { operation, file, source } => {
                Self::Storage { operation, file: directory.join(file).display().to_string(), source }
            }
            other => other,
        }
    }

    /// Names a record that could not be sealed or opened.
    pub(crate) fn seal(sequence: u64) -> impl FnOnce(SealError) -> Self {
        move |source| Self::Seal { sequence, source: Arc::new(source) }
    }

    /// Whether the disk was full.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::Storage { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::Stopped { source } => source.is_no_space(),
            _ => false,
        }
    }
}

impl From<WalError> for io::Error {
    fn from(error: WalError) -> Self {
        let kind = match &error {
            WalError::Storage { source, .. } => source.kind(),
            WalError::Damaged { .. } | WalError::Incomplete { .. } | WalError::Seal { .. } => {
                io::ErrorKind::InvalidData
            }
            WalError::NotHeld { .. } => io::ErrorKind::NotFound,
            WalError::NotConsecutive { .. } | WalError::TooLarge { .. } => io::ErrorKind::InvalidInput,
            _ => io::ErrorKind::Other,
        };
        // Whoever takes this for text only (as Raft does) must not lose the cause.
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        if error.is_no_space() {
            text.push_str(": the disk of the log is full; free some space, then start this manager again");
        }
        Self::new(kind, text)
    }
}
