//! What a caller of Raft can be told.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use coracle_seal::SealError;
use coracle_wal::WalError;

/// Where the leader is, as far as this manager knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leader {
    /// Its Raft id.
    pub raft_id: u64,
    /// Where its transport listens, host:port.
    pub address: String,
}

/// A proposal, read or membership change that was not done.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RaftError {
    /// Another manager leads. Nothing was done; ask the leader.
    #[error("this manager is not the leader{}", .leader.as_ref().map(|leader| format!(": manager {} at {} is", leader.raft_id, leader.address)).unwrap_or_default())]
    NotLeader {
        /// The leader, if it is known.
        leader: Option<Leader>,
    },
    /// Nothing was done, and nobody can do it right now.
    #[error("no decision is possible now: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
    /// It may have been done or may still be.
    #[error("the outcome is unknown: {reason}; read the object again before repeating the request")]
    OutcomeUnknown {
        /// Why.
        reason: String,
    },
    /// The command is larger than an entry may be.
    #[error("command has {length} bytes, an entry holds up to {limit}: split the request")]
    TooLarge {
        /// Its length, in bytes.
        length: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The change of membership cannot be made.
    #[error("membership change refused: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
}

impl RaftError {
    /// Nothing was decided within `deadline`.
    pub(crate) fn late(deadline: Duration) -> Self {
        Self::OutcomeUnknown {
            reason: format!("no majority confirmed it within {} ms", deadline.as_millis()),
        }
    }
}

/// Why Raft did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RaftStartError {
    /// The log could not be opened.
    #[error("opening the Raft log in {} failed", path.display())]
    Log {
        /// The log's directory.
        path: PathBuf,
        /// Why.
        source: WalError,
    },
    /// A file of Raft could not be read or written.
    #[error("{operation} {} failed{}", path.display(), hint(source))]
    File {
        /// The operation, as in "creating".
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The identity file could not be read or written.
    #[error("reading or writing the identity of this manager failed")]
    Seal(#[from] SealError),
    /// The directory belongs to another manager.
    #[error("{} belongs to manager {found}, not to manager {wanted}: each manager needs a data directory of its own", path.display())]
    OtherIdentity {
        /// The directory.
        path: PathBuf,
        /// What it belongs to.
        found: String,
        /// What was to be started.
        wanted: String,
    },
    /// The log of a manager that took part before is gone.
    #[error(
        "the log in {} is gone, but manager {raft_id} has taken part in the cluster: it may have forgotten votes and \
         acknowledged writes; restore it, or remove the data directory and let the machine join again as a new manager",
        path.display()
    )]
    LogLost {
        /// The log's directory.
        path: PathBuf,
        /// Its Raft id.
        raft_id: u64,
    },
    /// No snapshot that fits the log can be read.
    #[error(
        "snapshot {} is damaged ({what}) and the log begins after what an older one covers: restore this manager's data, \
         or remove its data directory and let it join again as a new manager",
        path.display()
    )]
    SnapshotDamaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The log begins after everything that a snapshot here covers.
    #[error(
        "no snapshot in {} covers entry {index}, up to which the log was dropped because one did: restore this manager's \
         data, or remove its data directory and let it join again as a new manager",
        path.display()
    )]
    SnapshotMissing {
        /// The directory of the snapshots.
        path: PathBuf,
        /// The last entry that the log no longer holds.
        index: u64,
    },
    /// A setting makes no sense.
    #[error("Raft settings are not usable: {reason}")]
    Settings {
        /// Which and why.
        reason: String,
    },
    /// openraft refused to start.
    #[error("Raft could not start: {reason}")]
    Raft {
        /// Why.
        reason: String,
    },
}

/// What an operator can do about an answer of the operating system, where that is known.
fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ": its disk is full; free some space, then start this manager again"
        }
        io::ErrorKind::WouldBlock => ": another coracle daemon works with it; stop that one first",
        io::ErrorKind::ReadOnlyFilesystem => {
            ": its file system is read-only; look into the kernel's log for why"
        }
        io::ErrorKind::PermissionDenied => ": the daemon must run as root",
        _ => "",
    }
}
