//! The fence: what is known to be durable, kept outside the segments.
//!
//! After a crash a reader of the log must decide, for bytes that make no sense, whether they are the torn end of a
//! batch that nobody was told about, or damage to records that had been confirmed. Three things help:
//!
//! 1. Every record carries the sequence number up to which all was durable when it was written. A readable record after
//!    the damage whose fence lies behind it proves that the damaged one had been confirmed.
//! 2. A segment is created only after the one before it is durable. So only the newest segment can have a torn end.
//! 3. The file `fence` holds the last confirmed sequence number. It is rewritten after each sync of a batch but not
//!    synced then, which would cost every batch a second sync; it is synced once the log is idle, at each new segment
//!    and on close. It never says more than is durable, because it is written after the sync it tells of.
//!
//! So damage (also a cut) to a confirmed record is always told from a torn end, with one exception: a *power loss* within
//! moments of the last batch (before the kernel wrote the fence back or the log was idle), *and* damage to that very
//! batch afterwards, looks like the power loss alone. After a mere crash of the process the fence is complete, because
//! the page cache outlives it.
//!
//! The file has two slots in two sectors, written in turn, so that a torn write leaves the other one.
//! ```text
//! "CRFN" | version u32 | log identity 16 bytes | counter u64 | sequence u64 | segment u64 | checksum u32
//! ```

use std::sync::Arc;

use coracle_disk::{Storage, StorageFile};

use crate::error::WalError;
use crate::record::{LogIdentity, u32_at, u64_at};

/// The file's name.
pub(crate) const NAME: &str = "fence";
const TEMPORARY: &str = "fence.tmp";
const MAGIC: &[u8; 4] = b"CRFN";
const VERSION: u32 = 1;
const SLOT_BYTES: usize = 52;
/// The smallest sector of a disk, so that no write touches both slots.
const SLOT_STRIDE: usize = 512;
const FILE_BYTES: usize = 2 * SLOT_STRIDE;

/// What the fence says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Every record up to this sequence number is durable; 0 for none.
    pub(crate) sequence: u64,
    /// The segment that holds it; 0 for none.
    pub(crate) segment: u64,
}

/// The open fence file.
pub(crate) struct Fence {
    file: Arc<dyn StorageFile>,
    identity: LogIdentity,
    counter: u64,
    mark: Mark,
    unsynced: bool,
}

impl Fence {
    /// Creates the fence of a new log, durably.
    pub(crate) fn create(storage: &dyn Storage, identity: LogIdentity) -> Result<Self, WalError> {
        let mark = Mark { sequence: 0, segment: 0 };
        let mut content = [0; FILE_BYTES];
        for (slot, counter) in [(0, 0), (SLOT_STRIDE, 1)] {
            content[slot..slot + SLOT_BYTES].copy_from_slice(&encode(&identity, counter, mark));
        }
        // A leftover of an interrupted creation.
        let _ = storage.remove(TEMPORARY);
        let file = storage.create(TEMPORARY).map_err(WalError::storage("creating", TEMPORARY))?;
        file.write_all_at(0, &content).map_err(WalError::storage("writing", TEMPORARY))?;
        file.sync_data().map_err(WalError::storage("syncing", TEMPORARY))?;
        coracle_crash_point::crash_point!("wal.fence.before-rename");
        storage.rename(TEMPORARY, NAME).map_err(WalError::storage("renaming into place", NAME))?;
        storage.sync_directory().map_err(WalError::storage("syncing the directory of", NAME))?;
        Ok(Self { file, identity, counter: 1, mark, unsynced: false })
    }

    /// Opens the fence of an existing log.
    pub(crate) fn open(storage: &dyn Storage) -> Result<Self, WalError> {
        let file = storage.open(NAME).map_err(WalError::storage("opening", NAME))?;
        let mut content = [0; FILE_BYTES];
        let length = file.length().map_err(WalError::storage("reading", NAME))?;
        if length == FILE_BYTES as u64 {
            file.read_exact_at(0, &mut content).map_err(WalError::storage("reading", NAME))?;
        }
        let newest = [0, SLOT_STRIDE]
            .into_iter()
            .filter_map(|slot| decode(&content[slot..slot + SLOT_BYTES]))
            .max_by_key(|(_, counter, _)| *counter);
        let Some((identity, counter, mark)) = newest else {
            return Err(WalError::Damaged {
                file: NAME.to_owned(),
                offset: 0,
                what: format!("neither of its two copies is readable ({length} bytes)"),
                confirmed: 0,
            });
        };
        Ok(Self { file, identity, counter, mark, unsynced: false })
    }

    pub(crate) fn identity(&self) -> LogIdentity {
        self.identity
    }

    pub(crate) fn mark(&self) -> Mark {
        self.mark
    }

    /// Notes that everything up to `mark` is durable. Not synced itself.
    pub(crate) fn advance(&mut self, mark: Mark) -> Result<(), WalError> {
        if mark == self.mark {
            return Ok(());
        }
        coracle_crash_point::crash_point!("wal.fence.before-write");
        let counter = self.counter + 1;
        let offset = (counter % 2) * SLOT_STRIDE as u64;
        self.file
            .write_all_at(offset, &encode(&self.identity, counter, mark))
            .map_err(WalError::storage("writing", NAME))?;
        coracle_crash_point::crash_point!("wal.fence.after-write");
        self.counter = counter;
        self.mark = mark;
        self.unsynced = true;
        Ok(())
    }

    /// Whether the last mark is not synced yet.
    pub(crate) fn is_unsynced(&self) -> bool {
        self.unsynced
    }

    /// Makes the last mark durable.
    pub(crate) fn sync(&mut self) -> Result<(), WalError> {
        if self.unsynced {
            self.file.sync_data().map_err(WalError::storage("syncing", NAME))?;
            self.unsynced = false;
        }
        Ok(())
    }
}

fn encode(identity: &LogIdentity, counter: u64, mark: Mark) -> [u8; SLOT_BYTES] {
    let mut out = [0; SLOT_BYTES];
    out[0..4].copy_from_slice(MAGIC);
    out[4..8].copy_from_slice(&VERSION.to_le_bytes());
    out[8..24].copy_from_slice(identity);
    out[24..32].copy_from_slice(&counter.to_le_bytes());
    out[32..40].copy_from_slice(&mark.sequence.to_le_bytes());
    out[40..48].copy_from_slice(&mark.segment.to_le_bytes());
    let checksum = crc32c::crc32c(&out[..48]);
    out[48..52].copy_from_slice(&checksum.to_le_bytes());
    out
}

fn decode(bytes: &[u8]) -> Option<(LogIdentity, u64, Mark)> {
    if &bytes[0..4] != MAGIC
        || u32_at(bytes, 4) != VERSION
        || u32_at(bytes, 48) != crc32c::crc32c(&bytes[..48])
    {
        return None;
    }
    let mut identity = LogIdentity::default();
    identity.copy_from_slice(&bytes[8..24]);
    Some((identity, u64_at(bytes, 24), Mark { sequence: u64_at(bytes, 32), segment: u64_at(bytes, 40) }))
}
