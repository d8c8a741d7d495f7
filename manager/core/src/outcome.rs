//! How an entry ended.

use coracle_model::version::Version;

/// How an entry ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All changes were applied; this is the version of everything they wrote.
    Applied(Version),
    /// Nothing was applied.
    Refused(Refusal),
}

impl Outcome {
    /// The version written, or why nothing was.
    ///
    /// # Errors
    /// The refusal.
    pub fn into_result(self) -> Result<Version, Refusal> {
        match self {
            Self::Applied(version) => Ok(version),
            Self::Refused(refusal) => Err(refusal),
        }
    }
}

/// Why nothing was applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What kind of reason it is.
    pub kind: RefusalKind,
    /// The reason, for the operator.
    pub message: String,
}

/// The kinds of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalKind {
    /// The object is gone or was never there.
    NotFound,
    /// The object is another than its author read.
    Stale,
    /// A name, an identifier or a slot is taken.
    Exists,
    /// A rule forbids it.
    Forbidden,
    /// The proposer no longer led.
    NotLeader,
    /// The entry itself is not understood.
    Malformed,
}

impl Refusal {
    /// A refusal of this kind.
    pub fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}
