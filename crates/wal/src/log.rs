//! The log's handle, its queue and its writer thread.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use coracle_disk::{Space, Storage, StorageFile};
use coracle_seal::KeyRing;

use crate::error::WalError;
use crate::memory::{Memory, Place, Source};
use crate::record::{self, LogIdentity};
use crate::recover::recover;
use crate::writer::{Operation, Writer};
use crate::{Entry, Purged, segment};

/// Called once, from the writer thread, when an operation is durable or has failed. Must not block.
pub type Completion = Box<dyn FnOnce(Result<(), WalError>) + Send>;

/// How long the log must be idle before the fence and lazy writes are made durable.
const IDLE: Duration = Duration::from_millis(20);

/// Segments kept open for reading.
const OPEN_FOR_READING: usize = 4;

/// Sizes of a log.
#[derive(Debug, Clone)]
pub struct Options {
    /// A new segment is begun once the current one has this many bytes.
    pub segment_bytes: u64,
    /// Payloads of recent entries kept in memory, in bytes.
    pub cache_bytes: usize,
    /// A batch takes no further operation once it has this many bytes.
    pub batch_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: 8 << 20, cache_bytes: 4 << 20, batch_bytes: 2 << 20 }
    }
}

/// Figures about a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Index of the first entry held.
    pub first_index: u64,
    /// Index of the entry that comes next.
    pub next_index: u64,
    /// Number of segment files.
    pub segments: usize,
    /// Their length together, in bytes.
    pub disk_bytes: u64,
    /// Batches synced since the log was opened.
    pub syncs: u64,
    /// Operations confirmed by them.
    pub operations: u64,
}

/// An open log. Dropping it finishes what is queued and waits for that.
pub struct Log {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    storage: Arc<dyn Storage>,
    ring: KeyRing,
    identity: LogIdentity,
    batch_bytes: usize,
    inner: Mutex<Inner>,
    wake: Condvar,
    /// Called beside `wake`, when there is no thread.
    queued: Option<Box<dyn Fn() + Send + Sync>>,
    readers: Mutex<VecDeque<(u64, Arc<dyn StorageFile>)>>,
}

struct Inner {
    memory: Memory,
    queue: VecDeque<Queued>,
    /// The newest committed hint that is not written yet.
    lazy: Option<Bytes>,
    failure: Option<Arc<WalError>>,
    closing: bool,
    /// The writer thread waits without a time limit.
    asleep: bool,
    stats: Stats,
}

struct Queued {
    operation: Operation,
    done: Option<Completion>,
}

impl fmt::Debug for Log {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Log").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Log {
    /// Opens the log in `storage`, or creates one when it is empty.
    ///
    /// # Errors
    /// [`WalError::Damaged`] or [`WalError::Incomplete`] when something confirmed is missing; [`WalError::Seal`] when the
    /// keyring is not the one it was written with; [`WalError::Storage`].
    pub fn open(storage: impl Storage, ring: KeyRing, options: &Options) -> Result<Self, WalError> {
        let (shared, writer) = Shared::open(Arc::new(storage), ring, options, None)?;
        let thread = std::thread::Builder::new()
            .name("wal-writer".to_owned())
            .spawn({
                let shared = shared.clone();
                move || shared.run(writer)
            })
            .map_err(WalError::storage("starting the writer of", "the log"))?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Like [`Log::open`], but without a thread: nothing is written before [`Stepper::step`] is called, for tests in which
    /// every moment is chosen. `queued` is called when there is something to write; it must not block.
    ///
    /// # Errors
    /// As [`Log::open`].
    #[cfg(any(test, feature = "testing"))]
    pub fn open_stepped(
        storage: impl Storage,
        ring: KeyRing,
        options: &Options,
        queued: impl Fn() + Send + Sync + 'static,
    ) -> Result<(Self, Stepper), WalError> {
        let (shared, writer) = Shared::open(Arc::new(storage), ring, options, Some(Box::new(queued)))?;
        let stepper = Stepper { shared: shared.clone(), writer: Some(writer) };
        Ok((Self { shared, thread: Mutex::new(None) }, stepper))
    }

    /// Appends entries; they can be read at once, and `done` is called when they are durable.
    ///
    /// # Errors
    /// When nothing was appended: [`WalError::NotConsecutive`], [`WalError::TooLarge`], [`WalError::Stopped`],
    /// [`WalError::Closed`]. `done` is then not called.
    pub fn append(&self, entries: Vec<Entry>, done: Completion) -> Result<(), WalError> {
        let mut inner = self.shared.writable()?;
        check_entries(&entries, inner.memory.next_index())?;
        let mut ticketed = Vec::with_capacity(entries.len());
        for entry in entries {
            let ticket = inner.memory.append(&entry)?;
            ticketed.push((entry, ticket));
        }
        self.shared.submit(inner, Operation::Append(ticketed), Some(done));
        Ok(())
    }

    /// Voids the entries from `index` on, before anything appended later becomes durable.
    ///
    /// # Errors
    /// [`WalError::NotHeld`] below the first index; [`WalError::Stopped`], [`WalError::Closed`].
    pub fn truncate_since(&self, index: u64) -> Result<(), WalError> {
        let mut inner = self.shared.writable()?;
        let (first, next) = (inner.memory.first_index(), inner.memory.next_index());
        if index < first {
            return Err(WalError::NotHeld { index, first, next });
        }
        if index < next {
            inner.memory.truncate_since(index);
            self.shared.submit(inner, Operation::Truncate(index), None);
        }
        Ok(())
    }

    /// Lets an empty log that was never purged begin at `index` instead of 0.
    ///
    /// # Errors
    /// [`WalError::NotConsecutive`] when it is not empty; [`WalError::Stopped`], [`WalError::Closed`].
    pub fn begin_at(&self, index: u64) -> Result<(), WalError> {
        let mut inner = self.shared.writable()?;
        if inner.memory.last().is_some() || inner.memory.purged.is_some() {
            return Err(WalError::NotConsecutive { index, expected: inner.memory.next_index() });
        }
        inner.memory.restart_keeping_state(index);
        self.shared.submit(inner, Operation::Begin(index), None);
        Ok(())
    }

    /// Removes the entries up to `purged`, which a snapshot covers. It may lie beyond the end of the log.
    ///
    /// # Errors
    /// [`WalError::Stopped`], [`WalError::Closed`].
    pub fn purge(&self, purged: Purged) -> Result<(), WalError> {
        let mut inner = self.shared.writable()?;
        if inner.memory.purged.as_ref().is_none_or(|before| before.index < purged.index) {
            inner.memory.purge(&purged);
            self.shared.submit(inner, Operation::Purge(purged), None);
        }
        Ok(())
    }

    /// Records a vote (opaque bytes); `done` is called when it is durable.
    ///
    /// # Errors
    /// [`WalError::Stopped`], [`WalError::Closed`]; `done` is then not called.
    pub fn save_vote(&self, vote: Bytes, done: Completion) -> Result<(), WalError> {
        let mut inner = self.shared.writable()?;
        inner.memory.vote = Some(vote.clone());
        self.shared.submit(inner, Operation::Vote(vote), Some(done));
        Ok(())
    }

    /// Records how far entries are committed (opaque bytes), with the next batch or when the log is idle.
    ///
    /// # Errors
    /// [`WalError::Stopped`], [`WalError::Closed`].
    pub fn save_committed(&self, committed: Bytes) -> Result<(), WalError> {
        let mut inner = self.shared.writable()?;
        inner.memory.committed = Some(committed.clone());
        let first = inner.lazy.replace(committed).is_none();
        // A writer that waits with a time limit writes it when that is over: no need to wake it.
        let wake = first && (inner.asleep || self.shared.queued.is_some());
        drop(inner);
        if wake {
            self.shared.notify();
        }
        Ok(())
    }

    /// Reads entries from `from` to before `to`: at least one (if there is any), then as many as fit into `max_bytes`.
    ///
    /// Those that left the cache are read from disk, on the calling thread.
    ///
    /// # Errors
    /// [`WalError::NotHeld`] when the range is not held whole; [`WalError::Damaged`], [`WalError::Storage`].
    pub fn read(&self, from: u64, to: u64, max_bytes: usize) -> Result<Vec<Entry>, WalError> {
        let sources = self.shared.lock().memory.plan(from, to, max_bytes)?;
        sources.into_iter().map(|source| self.shared.take(source)).collect()
    }

    /// Like [`Log::read`], but `None` when that would have to read the disk.
    ///
    /// # Errors
    /// [`WalError::NotHeld`].
    pub fn read_cached(&self, from: u64, to: u64, max_bytes: usize) -> Result<Option<Vec<Entry>>, WalError> {
        let sources = self.shared.lock().memory.plan(from, to, max_bytes)?;
        Ok(sources
            .into_iter()
            .map(|source| match source {
                Source::Cached(entry) => Some(entry),
                Source::Stored { .. } => None,
            })
            .collect())
    }

    /// The last vote given to [`Log::save_vote`].
    #[must_use]
    pub fn vote(&self) -> Option<Bytes> {
        self.shared.lock().memory.vote.clone()
    }

    /// The last value given to [`Log::save_committed`].
    #[must_use]
    pub fn committed(&self) -> Option<Bytes> {
        self.shared.lock().memory.committed.clone()
    }

    /// Up to where entries were removed.
    #[must_use]
    pub fn purged(&self) -> Option<Purged> {
        self.shared.lock().memory.purged.clone()
    }

    /// Index and term of the last entry held.
    #[must_use]
    pub fn last(&self) -> Option<(u64, u64)> {
        self.shared.lock().memory.last()
    }

    /// How many bytes the entries after `index` take (all of them for `None`): what a new snapshot would save.
    #[must_use]
    pub fn bytes_after(&self, index: Option<u64>) -> u64 {
        self.shared.lock().memory.bytes_after(index)
    }

    /// Figures about the log.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let inner = self.shared.lock();
        Stats {
            first_index: inner.memory.first_index(),
            next_index: inner.memory.next_index(),
            ..inner.stats
        }
    }

    /// The first failed write, after which the log takes no more.
    #[must_use]
    pub fn failure(&self) -> Option<Arc<WalError>> {
        self.shared.lock().failure.clone()
    }

    /// The room on the log's disk, for refusing new work before it is full.
    ///
    /// # Errors
    /// [`WalError::Storage`].
    pub fn space(&self) -> Result<Space, WalError> {
        self.shared.storage.space().map_err(WalError::storage("asking for the free space of", "the log"))
    }

    /// Writes what is queued, makes it durable and ends the writer thread. Later writes are refused.
    pub fn close(&self) {
        self.shared.lock().closing = true;
        self.shared.notify();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("the log's writer thread panicked");
        }
        self.shared.storage.release();
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.close();
    }
}

/// The writer of a log that has no thread.
#[cfg(any(test, feature = "testing"))]
pub struct Stepper {
    shared: Arc<Shared>,
    /// Gone after a failure.
    writer: Option<Writer>,
}

#[cfg(any(test, feature = "testing"))]
impl fmt::Debug for Stepper {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Stepper").finish_non_exhaustive()
    }
}

#[cfg(any(test, feature = "testing"))]
impl Stepper {
    /// Writes and syncs one batch of what is queued and confirms it. Returns whether there was any.
    pub fn step(&mut self) -> bool {
        let batch = {
            let mut inner = self.shared.lock();
            (!inner.queue.is_empty()).then(|| inner.take_batch(self.shared.batch_bytes))
        };
        let queued = batch.is_some();
        self.work(batch);
        queued
    }

    /// Does what the writer's thread does when nothing was queued for a while.
    pub fn idle(&mut self) {
        let lazy = {
            let mut inner = self.shared.lock();
            inner.lazy.is_some().then(|| inner.take_batch(self.shared.batch_bytes))
        };
        self.work(lazy);
        self.work(Some(Next::SyncFence));
    }

    fn work(&mut self, next: Option<Next>) {
        let (Some(next), Some(writer)) = (next, &mut self.writer) else { return };
        let result = match next {
            Next::Write(operations, done) => self.shared.write(writer, &operations, done),
            Next::SyncFence => writer.sync_fence(),
            Next::End => Ok(()),
        };
        if let Err(error) = result {
            self.shared.fail(error);
            self.writer = None;
        }
    }
}

fn check_entries(entries: &[Entry], next: u64) -> Result<(), WalError> {
    for (entry, expected) in entries.iter().zip(next..) {
        if entry.index != expected {
            return Err(WalError::NotConsecutive { index: entry.index, expected });
        }
        let (index, length, limit) = (entry.index, entry.payload.len(), record::PAYLOAD_LIMIT);
        if length > limit {
            return Err(WalError::TooLarge { index, length, limit });
        }
    }
    Ok(())
}

/// What the writer thread does next.
enum Next {
    Write(Vec<Operation>, Vec<Completion>),
    SyncFence,
    End,
}

impl Shared {
    fn open(
        storage: Arc<dyn Storage>,
        ring: KeyRing,
        options: &Options,
        queued: Option<Box<dyn Fn() + Send + Sync>>,
    ) -> Result<(Arc<Self>, Writer), WalError> {
        let mut recovered = recover(&*storage, &ring, options.cache_bytes)?;
        let memory = std::mem::take(&mut recovered.memory);
        let identity = recovered.fence.identity();
        let mut writer = Writer::new(storage.clone(), ring.clone(), options.segment_bytes, recovered);
        writer.settle()?;
        let mut inner = Inner {
            memory,
            queue: VecDeque::new(),
            lazy: None,
            failure: None,
            closing: false,
            asleep: false,
            stats: Stats::default(),
        };
        inner.note_disk(&writer);
        let shared = Self {
            storage,
            ring,
            identity,
            batch_bytes: options.batch_bytes,
            inner: Mutex::new(inner),
            wake: Condvar::new(),
            queued,
            readers: Mutex::new(VecDeque::new()),
        };
        Ok((Arc::new(shared), writer))
    }

    /// Tells whoever writes that there is something to do.
    fn notify(&self) {
        self.wake.notify_one();
        if let Some(queued) = &self.queued {
            queued();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code that holds this lock can panic half way through a change.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writable(&self) -> Result<MutexGuard<'_, Inner>, WalError> {
        let inner = self.lock();
        if let Some(source) = &inner.failure {
            return Err(WalError::Stopped { source: source.clone() });
        }
        if inner.closing { Err(WalError::Closed) } else { Ok(inner) }
    }

    fn submit(&self, mut inner: MutexGuard<'_, Inner>, operation: Operation, done: Option<Completion>) {
        inner.queue.push_back(Queued { operation, done });
        drop(inner);
        self.notify();
    }

    /// The writer thread.
    fn run(&self, mut writer: Writer) {
        loop {
            let result = match self.next(writer.fence_is_unsynced()) {
                Next::End => break,
                Next::SyncFence => writer.sync_fence(),
                Next::Write(operations, done) => self.write(&mut writer, &operations, done),
            };
            if let Err(error) = result {
                self.fail(error);
                return;
            }
        }
    }

    fn next(&self, fence_is_unsynced: bool) -> Next {
        let mut inner = self.lock();
        loop {
            if !inner.queue.is_empty() {
                return inner.take_batch(self.batch_bytes);
            }
            let work_when_idle = fence_is_unsynced || inner.lazy.is_some();
            if !work_when_idle && inner.closing {
                return Next::End;
            }
            if !work_when_idle {
                inner.asleep = true;
                inner = self.wake.wait(inner).unwrap_or_else(PoisonError::into_inner);
                inner.asleep = false;
                continue;
            }
            let mut idle = inner.closing;
            if !idle {
                let (guard, timeout) =
                    self.wake.wait_timeout(inner, IDLE).unwrap_or_else(PoisonError::into_inner);
                inner = guard;
                idle = timeout.timed_out() || inner.closing;
            }
            if idle && inner.queue.is_empty() {
                return if inner.lazy.is_some() {
                    inner.take_batch(self.batch_bytes)
                } else {
                    Next::SyncFence
                };
            }
        }
    }

    fn write(
        &self,
        writer: &mut Writer,
        operations: &[Operation],
        done: Vec<Completion>,
    ) -> Result<(), WalError> {
        match writer.write(operations).map_err(|error| error.located(self.storage.path())) {
            Ok(written) => {
                let mut inner = self.lock();
                for entry in written {
                    inner.memory.written(entry.index, entry.ticket, entry.place);
                }
                inner.stats.syncs += 1;
                inner.stats.operations += operations.len() as u64;
                inner.note_disk(writer);
                drop(inner);
                for done in done {
                    done(Ok(()));
                }
            }
            Err(error) => {
                for done in done {
                    done(Err(error.clone()));
                }
                return Err(error);
            }
        }
        writer.settle().map_err(|error| error.located(self.storage.path()))?;
        self.lock().note_disk(writer);
        Ok(())
    }

    /// Stops the log for good and tells all who wait.
    fn fail(&self, error: WalError) {
        tracing::error!(error = &error as &dyn std::error::Error, "the log failed and takes no more writes");
        let source = Arc::new(error);
        let mut inner = self.lock();
        inner.failure = Some(source.clone());
        let queue = std::mem::take(&mut inner.queue);
        drop(inner);
        for done in queue.into_iter().filter_map(|queued| queued.done) {
            done(Err(WalError::Stopped { source: source.clone() }));
        }
    }

    fn take(&self, source: Source) -> Result<Entry, WalError> {
        match source {
            Source::Cached(entry) => Ok(entry),
            Source::Stored { index, term, place } => {
                self.read_stored(index, term, place).map_err(|error| self.explain_read(index, error))
            }
        }
    }

    /// A purge may have removed the file between planning and reading.
    fn explain_read(&self, index: u64, error: WalError) -> WalError {
        let inner = self.lock();
        let (first, next) = (inner.memory.first_index(), inner.memory.next_index());
        if index < first { WalError::NotHeld { index, first, next } } else { error }
    }

    fn read_stored(&self, index: u64, term: u64, place: Place) -> Result<Entry, WalError> {
        let name = segment::name(place.segment);
        let file = self.reader(place.segment, &name)?;
        let mut bytes = vec![0; place.length as usize];
        file.read_exact_at(u64::from(place.offset), &mut bytes)
            .map_err(WalError::storage("reading", &name))?;
        let damaged = || WalError::Damaged {
            file: name.clone(),
            offset: u64::from(place.offset),
            what: format!("entry {index} changed since it was written"),
            confirmed: 0,
        };
        let header = record::Header::decode(&self.identity, &bytes).ok_or_else(damaged)?;
        if header.index != index || header.term != term || header.total_length() != bytes.len() {
            return Err(damaged());
        }
        let body = &bytes[record::HEADER_BYTES..];
        let payload = record::open_body(&self.ring, &self.identity, &header, body)?.ok_or_else(damaged)?;
        Ok(Entry { index, term, payload })
    }

    fn reader(&self, number: u64, name: &str) -> Result<Arc<dyn StorageFile>, WalError> {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, file)) = readers.iter().find(|(open, _)| *open == number) {
            return Ok(file.clone());
        }
        let file = self.storage.open(name).map_err(WalError::storage("opening", name))?;
        if readers.len() == OPEN_FOR_READING {
            readers.pop_front();
        }
        readers.push_back((number, file.clone()));
        Ok(file)
    }
}

impl Inner {
    fn take_batch(&mut self, limit: usize) -> Next {
        let mut size = 0;
        let (mut operations, mut completions) = (Vec::new(), Vec::new());
        while size < limit
            && let Some(Queued { operation, done }) = self.queue.pop_front()
        {
            size += operation.size();
            operations.push(operation);
            completions.extend(done);
        }
        operations.extend(self.lazy.take().map(Operation::Committed));
        Next::Write(operations, completions)
    }

    fn note_disk(&mut self, writer: &Writer) {
        self.stats.segments = writer.segment_count();
        self.stats.disk_bytes = writer.disk_bytes();
    }
}
