//! The few file operations that durable data needs, as a trait: real directories in production, and in tests a disk that
//! forgets what was not synced, directory entries included.
//!
//! A crate of its own, below `coracle-seal` and `coracle-wal`, because both write files whose loss in a power failure has
//! to be tested, and the snapshots and the identity of a manager do too: one simulated disk under all of them shows what
//! is wrong *between* them, such as a log that was purged before its snapshot's name was durable.
//!
//! The traits have no type parameters, so that what is built on them has none either; a call through a table costs
//! nothing beside the system call behind it.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod disk;
mod storage;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use disk::DiskStorage;
pub use storage::{Space, Storage, StorageFile, read_whole};
