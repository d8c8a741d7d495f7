//! Reading a log back: replays the records, tells a torn end from damage, and leaves the log ready for writing.

use std::collections::BTreeMap;

use bytes::Bytes;
use coracle_disk::{Storage, StorageFile};
use coracle_seal::KeyRing;

use crate::error::WalError;
use crate::fence::{self, Fence, Mark};
use crate::memory::{Memory, Place};
use crate::record::{self, Kind, LogIdentity, Position};
use crate::segment::{self, Checkpoint};
use crate::writer::{Current, SegmentInfo};
use crate::{Entry, Purged};

/// A log that was read back.
pub(crate) struct Recovered {
    pub(crate) fence: Fence,
    pub(crate) memory: Memory,
    /// The state besides the entries, as the records say it.
    pub(crate) state: Checkpoint,
    pub(crate) position: Position,
    pub(crate) segments: BTreeMap<u64, SegmentInfo>,
    pub(crate) current: Option<Current>,
}

/// Opens or creates the log in `storage`.
pub(crate) fn recover(
    storage: &dyn Storage,
    ring: &KeyRing,
    cache_limit: usize,
) -> Result<Recovered, WalError> {
    let names = storage.list().map_err(WalError::storage("listing", "the log's directory"))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment::number(name)).collect();
    numbers.sort_unstable();
    let fence = if names.iter().any(|name| name == fence::NAME) {
        Fence::open(storage)?
    } else if numbers.is_empty() {
        Fence::create(storage, random_identity()?)?
    } else {
        return Err(WalError::Incomplete { what: format!("the file {:?} is missing", fence::NAME) });
    };
    check_numbers(&numbers, fence.mark())?;

    let mut replay = Replay {
        ring,
        identity: fence.identity(),
        mark: fence.mark(),
        memory: Memory::new(0, cache_limit),
        state: Checkpoint::default(),
        position: Position { sequence: 1, previous: 0 },
        segments: BTreeMap::new(),
        began: None,
    };
    let mut current = None;
    let mut buffer = Vec::new();
    for (nth, number) in numbers.iter().copied().enumerate() {
        let place = SegmentPlace { number, first: nth == 0, last: nth + 1 == numbers.len() };
        current = replay.segment(storage, place, &mut buffer)?.or(current);
    }
    replay.check_complete()?;
    if current.is_some() {
        // The newest file may have been created just before the crash.
        storage.sync_directory().map_err(WalError::storage("syncing the directory of", "the log"))?;
    }
    let Replay { mut memory, state, position, segments, .. } = replay;
    memory.vote.clone_from(&state.vote);
    memory.committed.clone_from(&state.committed);
    Ok(Recovered { fence, memory, state, position, segments, current })
}

fn random_identity() -> Result<LogIdentity, WalError> {
    let mut identity = LogIdentity::default();
    let mut filled = 0;
    while filled < identity.len() {
        filled += rustix::rand::getrandom(&mut identity[filled..], rustix::rand::GetRandomFlags::empty())
            .map_err(|error| WalError::storage("drawing an identity for", fence::NAME)(error.into()))?;
    }
    Ok(identity)
}

fn check_numbers(numbers: &[u64], mark: Mark) -> Result<(), WalError> {
    if let Some(pair) = numbers.windows(2).find(|pair| pair[1] != pair[0] + 1) {
        return Err(WalError::Incomplete {
            what: format!(
                "between {} and {} a file is missing",
                segment::name(pair[0]),
                segment::name(pair[1])
            ),
        });
    }
    if numbers.last().copied().unwrap_or(0) < mark.segment {
        return Err(WalError::Incomplete { what: format!("{} is missing", segment::name(mark.segment)) });
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct SegmentPlace {
    number: u64,
    first: bool,
    last: bool,
}

struct Replay<'ring> {
    ring: &'ring KeyRing,
    identity: LogIdentity,
    mark: Mark,
    memory: Memory,
    state: Checkpoint,
    position: Position,
    segments: BTreeMap<u64, SegmentInfo>,
    /// Where an empty log was told to begin.
    began: Option<u64>,
}

impl Replay<'_> {
    /// Replays one segment. `None` when it held nothing and was removed.
    fn segment(
        &mut self,
        storage: &dyn Storage,
        at: SegmentPlace,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<Current>, WalError> {
        let name = segment::name(at.number);
        let file = storage.open(&name).map_err(WalError::storage("opening", &name))?;
        read_whole(&*file, &name, buffer)?;
        let Some(header) = segment::Header::decode(&name, buffer)? else {
            let in_newest = at.last && self.mark.segment < at.number;
            self.refuse_unless_torn(&name, 0, "its header is unreadable", buffer, in_newest)?;
            remove_torn(storage, &name)?;
            return Ok(None);
        };
        if header.identity != self.identity || header.number != at.number {
            return Err(self.damaged(&name, 0, "it belongs to another log"));
        }
        if at.first {
            self.position = header.start;
        } else if header.start != self.position {
            return Err(self.damaged(&name, 0, "it does not continue the file before it"));
        }
        self.segments.insert(at.number, SegmentInfo { length: 0, last_index: None });
        let Extent { confirmed, end } = self.records(&name, at, buffer)?;
        if end == segment::HEADER_BYTES {
            if !at.last || self.mark.segment >= at.number {
                return Err(self.damaged(&name, end, "its checkpoint is missing"));
            }
            self.segments.remove(&at.number);
            remove_torn(storage, &name)?;
            return Ok(None);
        }
        if at.last {
            make_durable(&*file, &name, buffer, &Extent { confirmed, end })?;
        }
        if let Some(info) = self.segments.get_mut(&at.number) {
            info.length = end as u64;
        }
        Ok(Some(Current { number: at.number, file, length: end as u64 }))
    }

    /// Replays the records of a segment; returns where the confirmed and the good ones end.
    fn records(&mut self, name: &str, at: SegmentPlace, bytes: &[u8]) -> Result<Extent, WalError> {
        let mut offset = segment::HEADER_BYTES;
        let mut confirmed = 0;
        while offset < bytes.len() {
            if self.position.sequence <= self.mark.sequence + 1 {
                confirmed = offset;
            }
            match self.record(&bytes[offset..])? {
                Ok((header, payload)) => {
                    let opening = offset == segment::HEADER_BYTES;
                    self.apply(name, at, offset, &header, payload, opening)?;
                    offset += header.total_length();
                    self.position = Position { sequence: header.sequence + 1, previous: header.checksum };
                }
                Err(what) => {
                    self.refuse_unless_torn(name, offset, what, &bytes[offset..], at.last)?;
                    return Ok(Extent { confirmed, end: offset });
                }
            }
        }
        Ok(Extent { confirmed: confirmed.min(offset), end: offset })
    }

    /// Reads the record at the start of `bytes`; the inner error says why it is not the one that must come here.
    fn record(&self, bytes: &[u8]) -> Result<Result<(record::Header, Bytes), &'static str>, WalError> {
        let Some(header) = record::Header::decode(&self.identity, bytes) else {
            return Ok(Err("a record's header is unreadable"));
        };
        if header.sequence != self.position.sequence || header.previous != self.position.previous {
            return Ok(Err("a record does not continue the one before it"));
        }
        let Some(body) = bytes.get(record::HEADER_BYTES..header.total_length()) else {
            return Ok(Err("a record is cut off"));
        };
        match record::open_body(self.ring, &self.identity, &header, body)? {
            Some(payload) => Ok(Ok((header, payload))),
            None => Ok(Err("a record's content does not fit its checksum")),
        }
    }

    /// Refuses unless the bytes from `offset` on can be the end of a batch that was never confirmed.
    fn refuse_unless_torn(
        &self,
        name: &str,
        offset: usize,
        what: &str,
        rest: &[u8],
        in_newest: bool,
    ) -> Result<(), WalError> {
        let expected = self.position.sequence;
        if !in_newest || self.mark.sequence >= expected || self.proves_durable(rest, expected) {
            return Err(self.damaged(name, offset, what));
        }
        Ok(())
    }

    /// Whether some record in `bytes` was written when record `sequence` was already durable.
    fn proves_durable(&self, bytes: &[u8], sequence: u64) -> bool {
        (1..bytes.len().saturating_sub(record::HEADER_BYTES - 1)).any(|offset| {
            record::Header::decode(&self.identity, &bytes[offset..])
                .is_some_and(|header| header.sequence > sequence && header.fence >= sequence)
        })
    }

    fn apply(
        &mut self,
        name: &str,
        at: SegmentPlace,
        offset: usize,
        header: &record::Header,
        payload: Bytes,
        opening: bool,
    ) -> Result<(), WalError> {
        let malformed = |this: &Self, what| this.damaged(name, offset, what);
        if opening != (header.kind == Kind::Checkpoint) {
            return Err(malformed(self, "a file must start with its one checkpoint"));
        }
        match header.kind {
            Kind::Checkpoint => {
                let checkpoint = Checkpoint::decode(payload)
                    .ok_or_else(|| malformed(self, "its checkpoint is malformed"))?;
                if at.first {
                    self.memory.restart(checkpoint.next_index);
                    self.memory.purged.clone_from(&checkpoint.purged);
                    self.state = checkpoint;
                } else if checkpoint != self.state {
                    return Err(malformed(self, "its checkpoint differs from what the files before say"));
                }
            }
            Kind::Entry => {
                let place = Place {
                    segment: at.number,
                    offset: u32::try_from(offset).map_err(|_| malformed(self, "the file is too long"))?,
                    length: u32::try_from(header.total_length())
                        .map_err(|_| malformed(self, "a record is too long"))?,
                };
                let entry = Entry { index: header.index, term: header.term, payload };
                self.memory
                    .append_stored(&entry, place)
                    .map_err(|_| malformed(self, "an entry does not follow the one before it"))?;
                self.state.next_index = self.memory.next_index();
                if let Some(info) = self.segments.get_mut(&at.number) {
                    info.last_index = info.last_index.max(Some(header.index));
                }
            }
            Kind::Vote => self.state.vote = Some(payload),
            Kind::Committed => self.state.committed = Some(payload),
            Kind::Begin => {
                self.memory.restart(header.index);
                self.state.next_index = header.index;
                self.began = Some(header.index);
            }
            Kind::Truncate => {
                self.memory.truncate_since(header.index);
                self.state.next_index = self.memory.next_index();
            }
            Kind::Purge => {
                let purged = Purged { index: header.index, term: header.term };
                self.memory.purge(&purged);
                self.state.purged = Some(purged);
                self.state.next_index = self.memory.next_index();
            }
        }
        Ok(())
    }

    fn check_complete(&self) -> Result<(), WalError> {
        let last = self.position.sequence - 1;
        if self.mark.sequence > last {
            return Err(WalError::Damaged {
                file: segment::name(self.mark.segment),
                offset: 0,
                what: format!("the log ends with record {last}"),
                confirmed: self.mark.sequence,
            });
        }
        let (first, kept) =
            (self.memory.first_index(), self.state.purged.as_ref().map_or(0, |purged| purged.index + 1));
        if first > kept && self.began != Some(first) {
            return Err(WalError::Incomplete {
                what: format!(
                    "its oldest file starts with entry {first}, but entries from {kept} on must be there"
                ),
            });
        }
        Ok(())
    }

    fn damaged(&self, name: &str, offset: usize, what: &str) -> WalError {
        WalError::Damaged {
            file: name.to_owned(),
            offset: offset as u64,
            what: what.to_owned(),
            confirmed: self.mark.sequence,
        }
    }
}

/// How far a segment's records reach, in bytes.
struct Extent {
    /// End of those that the fence says are durable (or somewhat before).
    confirmed: usize,
    end: usize,
}

/// Removes a segment that was being created when the power went; nothing in it had been confirmed.
fn remove_torn(storage: &dyn Storage, name: &str) -> Result<(), WalError> {
    tracing::warn!(file = name, "removed a log file whose creation was interrupted");
    storage.remove(name).map_err(WalError::storage("removing", name))?;
    storage.sync_directory().map_err(WalError::storage("syncing the directory of", name))
}

/// Cuts off the torn end and makes what was read durable, since Raft takes what it finds in its log for durable.
///
/// After a crash of the process alone the records may be in the page cache only; after a failed sync the kernel may
/// even hold them there as if they were written. So those that the fence does not vouch for are written again.
fn make_durable(file: &dyn StorageFile, name: &str, bytes: &[u8], extent: &Extent) -> Result<(), WalError> {
    if extent.end < bytes.len() {
        tracing::warn!(file = name, from = extent.end, to = bytes.len(), "cut off the torn end of the log");
        file.truncate(extent.end as u64).map_err(WalError::storage("cutting", name))?;
    }
    if let Some(unconfirmed) = bytes.get(extent.confirmed..extent.end)
        && !unconfirmed.is_empty()
    {
        file.write_all_at(extent.confirmed as u64, unconfirmed)
            .map_err(WalError::storage("writing", name))?;
    }
    file.sync_data().map_err(WalError::storage("syncing", name))
}

fn read_whole(file: &dyn StorageFile, name: &str, buffer: &mut Vec<u8>) -> Result<(), WalError> {
    let length = file.length().map_err(WalError::storage("reading", name))?;
    let length = usize::try_from(length)
        .map_err(|_| WalError::Incomplete { what: format!("{name} is too long for this machine") })?;
    buffer.clear();
    buffer.resize(length, 0);
    file.read_exact_at(0, buffer).map_err(WalError::storage("reading", name))
}
