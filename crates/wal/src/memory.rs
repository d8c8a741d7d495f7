//! What the log keeps in memory: where each live entry is, and the payloads of the newest ones.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::error::WalError;
use crate::{Entry, Purged};

/// Where a record is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) segment: u64,
    /// Offset of the record's header, in bytes.
    pub(crate) offset: u32,
    /// Length of header and body, in bytes.
    pub(crate) length: u32,
}

/// One live entry.
#[derive(Debug, Clone, Copy)]
struct Slot {
    term: u64,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Queued under this ticket; its payload is in the cache.
    Queued(u64),
    Written(Place),
}

/// Where to take an entry from.
#[derive(Debug)]
pub(crate) enum Source {
    Cached(Entry),
    Stored { index: u64, term: u64, place: Place },
}

/// The index of the log.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Index of the first slot.
    first: u64,
    slots: VecDeque<Slot>,
    /// Payloads of the last `cache.len()` slots.
    cache: VecDeque<Bytes>,
    cached_bytes: usize,
    cache_limit: usize,
    last_ticket: u64,
    pub(crate) vote: Option<Bytes>,
    pub(crate) committed: Option<Bytes>,
    pub(crate) purged: Option<Purged>,
}

impl Memory {
    pub(crate) fn new(first: u64, cache_limit: usize) -> Self {
        Self { first, cache_limit, ..Self::default() }
    }

    /// Lets an empty index begin at `first`.
    pub(crate) fn restart_keeping_state(&mut self, first: u64) {
        self.clear(first);
    }

    /// Starts over at `first`, with the same bound.
    pub(crate) fn restart(&mut self, first: u64) {
        *self = Self::new(first, self.cache_limit);
    }

    pub(crate) fn first_index(&self) -> u64 {
        self.first
    }

    pub(crate) fn next_index(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// Index and term of the last entry held.
    pub(crate) fn last(&self) -> Option<(u64, u64)> {
        self.slots.back().map(|slot| (self.next_index() - 1, slot.term))
    }

    /// Adds an entry that is not written yet; returns the ticket under which it will be.
    pub(crate) fn append(&mut self, entry: &Entry) -> Result<u64, WalError> {
        let expected = self.next_index();
        if entry.index != expected {
            return Err(WalError::NotConsecutive { index: entry.index, expected });
        }
        self.last_ticket += 1;
        self.slots.push_back(Slot { term: entry.term, state: State::Queued(self.last_ticket) });
        self.cached_bytes += entry.payload.len();
        self.cache.push_back(entry.payload.clone());
        Ok(self.last_ticket)
    }

    /// Adds an entry that was found on disk.
    pub(crate) fn append_stored(&mut self, entry: &Entry, place: Place) -> Result<(), WalError> {
        let ticket = self.append(entry)?;
        self.written(entry.index, ticket, place);
        Ok(())
    }

    /// Notes where an entry was written, unless it was truncated (and perhaps replaced) meanwhile.
    pub(crate) fn written(&mut self, index: u64, ticket: u64, place: Place) {
        let Some(slot) =
            index.checked_sub(self.first).and_then(|at| self.slots.get_mut(usize::try_from(at).ok()?))
        else {
            return;
        };
        if matches!(slot.state, State::Queued(queued) if queued == ticket) {
            slot.state = State::Written(place);
        }
        self.trim();
    }

    /// Drops the oldest payloads over the limit; what is not written yet stays.
    fn trim(&mut self) {
        while self.cached_bytes > self.cache_limit {
            let oldest = self.slots.len() - self.cache.len();
            match self.slots.get(oldest) {
                Some(Slot { state: State::Written(_), .. }) => {}
                _ => return,
            }
            self.cached_bytes -= self.cache.pop_front().map_or(0, |payload| payload.len());
        }
    }

    /// Drops the entries from `index` on.
    pub(crate) fn truncate_since(&mut self, index: u64) {
        if index < self.first {
            // While replaying, entries before the oldest segment are unknown: the log goes on at `index`.
            self.clear(index);
            return;
        }
        while self.next_index() > index {
            self.slots.pop_back();
            if let Some(payload) = self.cache.pop_back() {
                self.cached_bytes -= payload.len();
            }
        }
    }

    /// Drops the entries up to and including the one given.
    pub(crate) fn purge(&mut self, purged: &Purged) {
        if self.purged.as_ref().is_some_and(|before| before.index >= purged.index) {
            return;
        }
        self.purged = Some(purged.clone());
        let keep_from = purged.index.saturating_add(1);
        if keep_from >= self.next_index() {
            self.clear(keep_from);
            return;
        }
        while self.first < keep_from {
            if self.cache.len() == self.slots.len() {
                self.cached_bytes -= self.cache.pop_front().map_or(0, |payload| payload.len());
            }
            self.slots.pop_front();
            self.first += 1;
        }
    }

    fn clear(&mut self, first: u64) {
        self.slots.clear();
        self.cache.clear();
        self.cached_bytes = 0;
        self.first = first;
    }

    /// Says where to take the entries of `from..to` from: at least one, then as many as fit into `max_bytes`.
    pub(crate) fn plan(&self, from: u64, to: u64, max_bytes: usize) -> Result<Vec<Source>, WalError> {
        let (first, next) = (self.first, self.next_index());
        if from < first || to > next {
            let index = if from < first { from } else { next };
            return Err(WalError::NotHeld { index, first, next });
        }
        let mut sources = Vec::new();
        let mut bytes = 0;
        for index in from..to {
            let Some((source, length)) = self.source(index) else { break };
            bytes += length;
            if bytes > max_bytes && !sources.is_empty() {
                break;
            }
            sources.push(source);
        }
        Ok(sources)
    }

    fn source(&self, index: u64) -> Option<(Source, usize)> {
        let at = usize::try_from(index.checked_sub(self.first)?).ok()?;
        let slot = self.slots.get(at)?;
        let uncached = self.slots.len() - self.cache.len();
        if let Some(payload) = at.checked_sub(uncached).and_then(|at| self.cache.get(at)) {
            let entry = Entry { index, term: slot.term, payload: payload.clone() };
            return Some((Source::Cached(entry), payload.len()));
        }
        match slot.state {
            State::Written(place) => {
                Some((Source::Stored { index, term: slot.term, place }, place.length as usize))
            }
            State::Queued(_) => None,
        }
    }

    /// Bytes on disk of the written entries after `index`, and payload bytes of those not written yet.
    pub(crate) fn bytes_after(&self, index: Option<u64>) -> u64 {
        let from = index.map_or(self.first, |index| index.saturating_add(1)).max(self.first);
        (from..self.next_index()).filter_map(|index| self.length(index)).sum()
    }

    fn length(&self, index: u64) -> Option<u64> {
        let at = usize::try_from(index.checked_sub(self.first)?).ok()?;
        match self.slots.get(at)?.state {
            State::Written(place) => Some(u64::from(place.length)),
            State::Queued(_) => {
                let uncached = self.slots.len() - self.cache.len();
                self.cache.get(at.checked_sub(uncached)?).map(|payload| payload.len() as u64)
            }
        }
    }
}
