//! Versions of objects.

use std::fmt;

/// The Raft index of the write that made an object what it is; grows with every write to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Version(u64);

impl Version {
    /// The version of a write at this Raft index.
    #[must_use]
    pub const fn new(index: u64) -> Self {
        Self(index)
    }

    /// The Raft index.
    #[must_use]
    pub const fn index(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
