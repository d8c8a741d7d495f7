//! A segmented, append-only, sealed log: vote and entries of a Raft node in one stream.
//!
//! ```text
//! append, vote, truncate, purge ──▶ Memory (index and cache) ──▶ queue ──▶ writer thread
//!                                        ▲                                  │ seal, write, one fdatasync per batch
//! read ──────────────────────────────────┘                                  ▼
//!                                                        segments 1.wal 2.wal …, fence
//! ```
//!
//! What is promised, and how it is kept:
//!
//! - An operation is confirmed only after an `fdatasync` that covers it. Operations that arrive while a sync runs share
//!   the next one.
//! - Votes and entries become durable in the order in which they were given.
//! - A torn tail, as a power loss leaves it, is cut off at the next open; damage to anything that was confirmed refuses
//!   to open ([`WalError::Damaged`]). How far the two can be told apart: module `fence`, and the design record
//!   `docs/design/0001-own-segmented-log.md`.
//! - After the first failed write or sync nothing more is written: what the kernel kept of it is unknown (a later
//!   `fsync` may succeed although pages were dropped). Reading goes on; reopen to write again.
//! - Memory is bounded: recent entries up to [`Options::cache_bytes`], and 32 bytes per live entry.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod error;
mod fence;
mod log;
mod memory;
mod record;
mod recover;
mod segment;
mod writer;

#[cfg(any(test, feature = "testing"))]
pub use coracle_disk::testing;
pub use coracle_disk::{DiskStorage, Space, Storage, StorageFile};
pub use error::WalError;
#[cfg(any(test, feature = "testing"))]
pub use log::Stepper;
pub use log::{Completion, Log, Options, Stats};

use bytes::Bytes;

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Position in the log; consecutive.
    pub index: u64,
    /// Term of the leader that proposed it.
    pub term: u64,
    /// The content, opaque to the log.
    pub payload: Bytes,
}

/// Up to where entries were removed because a snapshot covers them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purged {
    /// The last index removed.
    pub index: u64,
    /// Its term.
    pub term: u64,
}
