//! What Raft asks of the state that it replicates.

use std::io::{self, Read, Write};

use bytes::Bytes;

use super::status::Members;

/// A state as it was at one moment, to be written out later on another thread.
pub type SnapshotView = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send>;

/// The state that the managers agree on.
///
/// Called from one task, in the order of the log. Applying must be deterministic.
pub trait ReplicatedState: Send + Sync + 'static {
    /// Applies a committed command; returns the encoded reply for its proposer. Must not fail: a command that cannot be
    /// carried out is answered so.
    fn apply(&self, index: u64, term: u64, command: &[u8]) -> Bytes;

    /// Everything up to `index` is applied: called once after each batch, before its proposers are answered, so that
    /// readers can be woken once and proposers read their own writes. The last entry may be none of ours.
    fn batch_applied(&self, index: u64, term: u64);

    /// Captures the state, quickly (nothing is applied meanwhile).
    fn snapshot(&self) -> SnapshotView;

    /// Replaces the whole state by what a [`SnapshotView`] wrote; `index` is the last entry it covers.
    ///
    /// # Errors
    /// When it cannot be decoded; the manager then stops.
    fn restore(&self, index: u64, term: u64, reader: &mut dyn Read) -> io::Result<()>;

    /// The membership of this entry is in force.
    fn membership_changed(&self, index: u64, members: &Members) {
        let _ = (index, members);
    }
}
