//! Writing: one batch at a time, sealed, written and synced as a whole; new segments; removing covered ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use coracle_disk::{Storage, StorageFile};
use coracle_seal::KeyRing;

use crate::error::WalError;
use crate::fence::{Fence, Mark};
use crate::memory::Place;
use crate::record::{self, Content, Kind, Position};
use crate::recover::Recovered;
use crate::segment::{self, Checkpoint};
use crate::{Entry, Purged};

/// Something to be written.
#[derive(Debug)]
pub(crate) enum Operation {
    /// Entries, each with the ticket that the index gave it.
    Append(Vec<(Entry, u64)>),
    Truncate(u64),
    Begin(u64),
    Purge(Purged),
    Vote(Bytes),
    Committed(Bytes),
}

impl Operation {
    /// Roughly how much it adds to a batch, in bytes.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Append(entries) => entries
                .iter()
                .map(|(entry, _)| entry.payload.len() + record::HEADER_BYTES + coracle_seal::OVERHEAD)
                .sum(),
            _ => record::HEADER_BYTES + coracle_seal::OVERHEAD,
        }
    }
}

/// What is known of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentInfo {
    /// Length in bytes.
    pub(crate) length: u64,
    /// Highest index of any entry in it, also of truncated ones.
    pub(crate) last_index: Option<u64>,
}

/// The segment that is being written.
pub(crate) struct Current {
    pub(crate) number: u64,
    pub(crate) file: Arc<dyn StorageFile>,
    /// Length in bytes; everything before is durable.
    pub(crate) length: u64,
}

/// An entry that is on disk now.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) index: u64,
    pub(crate) ticket: u64,
    pub(crate) place: Place,
}

/// The one writer of a log.
pub(crate) struct Writer {
    storage: Arc<dyn Storage>,
    ring: KeyRing,
    segment_bytes: u64,
    fence: Fence,
    position: Position,
    /// The state as of the last record written.
    state: Checkpoint,
    segments: BTreeMap<u64, SegmentInfo>,
    current: Option<Current>,
    /// A segment was begun and older ones may be removed once the fence says so.
    rotated: bool,
}

/// One batch while it is put together.
struct Batch {
    buffer: Vec<u8>,
    /// Offset of the buffer's start in its segment.
    start: u64,
    segment: u64,
    fence: u64,
    written: Vec<Written>,
    last_index: Option<u64>,
}

impl Writer {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        ring: KeyRing,
        segment_bytes: u64,
        recovered: Recovered,
    ) -> Self {
        let Recovered { fence, state, position, segments, current, .. } = recovered;
        Self { storage, ring, segment_bytes, fence, position, state, segments, current, rotated: false }
    }

    /// Bytes of all segments.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.segments.values().map(|info| info.length).sum()
    }

    pub(crate) fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// Writes the operations and makes them durable.
    pub(crate) fn write(&mut self, operations: &[Operation]) -> Result<Vec<Written>, WalError> {
        let begun = self.begin_segment_when_full()?;
        let Some(current) = &self.current else { return Err(WalError::Closed) };
        let (file, number, start) = (current.file.clone(), current.number, current.length);
        let mut batch = Batch {
            buffer: Vec::new(),
            start,
            segment: number,
            fence: self.position.sequence - 1,
            written: Vec::new(),
            last_index: None,
        };
        if begun {
            self.put_segment_start(&mut batch)?;
        }
        for operation in operations {
            self.put(&mut batch, operation)?;
        }
        let name = segment::name(number);
        coracle_crash_point::crash_point!("wal.before-write");
        file.write_all_at(start, &batch.buffer).map_err(WalError::storage("writing", &name))?;
        coracle_crash_point::crash_point!("wal.before-sync");
        file.sync_data().map_err(WalError::storage("syncing", &name))?;
        coracle_crash_point::crash_point!("wal.after-sync");
        if begun {
            self.storage.sync_directory().map_err(WalError::storage("syncing the directory of", &name))?;
        }
        self.note_written(&batch);
        Ok(batch.written)
    }

    fn begin_segment_when_full(&mut self) -> Result<bool, WalError> {
        let number = match &self.current {
            Some(current) if current.length < self.segment_bytes => return Ok(false),
            Some(current) => current.number + 1,
            None => self.segments.keys().last().copied().unwrap_or(self.fence.mark().segment) + 1,
        };
        let name = segment::name(number);
        let file = self.storage.create(&name).map_err(WalError::storage("creating", &name))?;
        coracle_crash_point::crash_point!("wal.after-segment-create");
        self.current = Some(Current { number, file, length: 0 });
        self.segments.insert(number, SegmentInfo { length: 0, last_index: None });
        self.rotated = true;
        Ok(true)
    }

    fn put_segment_start(&mut self, batch: &mut Batch) -> Result<(), WalError> {
        let header = segment::Header {
            identity: self.fence.identity(),
            number: batch.segment,
            start: self.position,
            key_id: self.ring.current_key_id(),
        };
        batch.buffer.extend_from_slice(&header.encode());
        let checkpoint = self.state.encode();
        self.put_record(batch, Kind::Checkpoint, 0, 0, &checkpoint)
    }

    fn put(&mut self, batch: &mut Batch, operation: &Operation) -> Result<(), WalError> {
        match operation {
            Operation::Append(entries) => {
                for (entry, ticket) in entries {
                    self.put_entry(batch, entry, *ticket)?;
                }
            }
            Operation::Truncate(index) => {
                self.put_record(batch, Kind::Truncate, *index, 0, &[])?;
                self.state.next_index = *index;
            }
            Operation::Begin(index) => {
                self.put_record(batch, Kind::Begin, *index, 0, &[])?;
                self.state.next_index = *index;
            }
            Operation::Purge(purged) => {
                self.put_record(batch, Kind::Purge, purged.index, purged.term, &[])?;
                self.state.next_index = self.state.next_index.max(purged.index + 1);
                self.state.purged = Some(purged.clone());
            }
            Operation::Vote(vote) => {
                self.put_record(batch, Kind::Vote, 0, 0, vote)?;
                self.state.vote = Some(vote.clone());
            }
            Operation::Committed(committed) => {
                self.put_record(batch, Kind::Committed, 0, 0, committed)?;
                self.state.committed = Some(committed.clone());
            }
        }
        Ok(())
    }

    fn put_entry(&mut self, batch: &mut Batch, entry: &Entry, ticket: u64) -> Result<(), WalError> {
        let before = batch.buffer.len();
        self.put_record(batch, Kind::Entry, entry.index, entry.term, &entry.payload)?;
        let too_large = |_| WalError::TooLarge {
            index: entry.index,
            length: entry.payload.len(),
            limit: record::PAYLOAD_LIMIT,
        };
        let place = Place {
            segment: batch.segment,
            offset: u32::try_from(batch.start + before as u64).map_err(too_large)?,
            length: u32::try_from(batch.buffer.len() - before).map_err(too_large)?,
        };
        batch.written.push(Written { index: entry.index, ticket, place });
        batch.last_index = batch.last_index.max(Some(entry.index));
        self.state.next_index = entry.index + 1;
        Ok(())
    }

    fn put_record(
        &mut self,
        batch: &mut Batch,
        kind: Kind,
        index: u64,
        term: u64,
        payload: &[u8],
    ) -> Result<(), WalError> {
        let content = Content { kind, index, term, payload };
        let identity = self.fence.identity();
        record::append(&self.ring, &identity, batch.fence, &mut self.position, &content, &mut batch.buffer)
    }

    fn note_written(&mut self, batch: &Batch) {
        let length = batch.start + batch.buffer.len() as u64;
        if let Some(current) = &mut self.current {
            current.length = length;
        }
        if let Some(info) = self.segments.get_mut(&batch.segment) {
            info.length = length;
            info.last_index = info.last_index.max(batch.last_index);
        }
    }

    /// Work that nobody waits for, after a batch was confirmed: moves the fence, removes covered segments.
    pub(crate) fn settle(&mut self) -> Result<(), WalError> {
        let Some(current) = &self.current else { return Ok(()) };
        self.fence.advance(Mark { sequence: self.position.sequence - 1, segment: current.number })?;
        if self.rotated || self.oldest_is_covered() {
            // Before an older segment goes, the fence must name the one that continues it.
            self.fence.sync()?;
            self.rotated = false;
        }
        while self.oldest_is_covered() {
            self.remove_oldest()?;
        }
        Ok(())
    }

    fn oldest_is_covered(&self) -> bool {
        let (Some(current), Some((number, info))) = (&self.current, self.segments.first_key_value()) else {
            return false;
        };
        let purged = self.state.purged.as_ref().map(|purged| purged.index);
        // Also a segment without entries may go: all else in it is in the next one's checkpoint.
        *number != current.number && info.last_index <= purged
    }

    fn remove_oldest(&mut self) -> Result<(), WalError> {
        let Some((number, _)) = self.segments.pop_first() else { return Ok(()) };
        let name = segment::name(number);
        coracle_crash_point::crash_point!("wal.remove.before");
        self.storage.remove(&name).map_err(WalError::storage("removing", &name))?;
        coracle_crash_point::crash_point!("wal.remove.after");
        // One at a time, so that a crash never leaves a gap.
        self.storage.sync_directory().map_err(WalError::storage("syncing the directory of", &name))
    }

    /// Whether [`Writer::sync_fence`] has something to do.
    pub(crate) fn fence_is_unsynced(&self) -> bool {
        self.fence.is_unsynced()
    }

    /// Makes the fence durable, when nothing else is to be done.
    pub(crate) fn sync_fence(&mut self) -> Result<(), WalError> {
        self.fence.sync()
    }
}
