//! Snapshot files: immutable, sealed, written once.
//!
//! ```text
//! "CRSN" | version u32 | identity 16 bytes | (kind u8 | length u32 | sealed)*      meta, then chunks, then the end
//! ```
//! Every part is sealed for its file, number and kind, so that parts cannot be lost, swapped or taken from another file;
//! the end says how long the content is. A file is written under a temporary name, synced, read back whole, and only
//! then renamed: what has a snapshot's name can be relied on when the log before it is purged.

mod file;
mod store;

pub(crate) use file::SnapshotWriter;
pub(crate) use store::{SnapshotFile, SnapshotStore};
