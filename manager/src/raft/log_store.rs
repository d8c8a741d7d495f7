//! openraft's log, kept in `coracle-wal`.

use std::fmt::Debug;
use std::io;
use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use bytes::Bytes;
use coracle_proto::v1;
use coracle_wal::{Log, Purged};
use futures::Stream;
use futures::stream;
use openraft::OptionalSend;
use openraft::entry::RaftEntry as _;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use prost::Message as _;

use super::platform::{Host, Platform};
use super::settings::BATCH_BYTES;
use super::types::{Entry, LogId, TypeConfig, Vote, log_id, term_of};
use super::wire;

/// The log of one manager; a clone is another handle to it.
#[derive(Debug)]
pub(crate) struct LogStore<P: Platform = Host> {
    log: Arc<Log>,
    _platform: PhantomData<P>,
}

impl<P: Platform> Clone for LogStore<P> {
    fn clone(&self) -> Self {
        Self::new(self.log.clone())
    }
}

impl<P: Platform> LogStore<P> {
    pub(crate) fn new(log: Arc<Log>) -> Self {
        Self { log, _platform: PhantomData }
    }

    /// Reads at least one entry of `from..to` (if there is any), then as many as fit into `max_bytes`.
    async fn read(&self, from: u64, to: u64, max_bytes: usize) -> io::Result<Vec<Entry>> {
        let entries = match self.log.read_cached(from, to, max_bytes)? {
            Some(entries) => entries,
            None => {
                let log = self.log.clone();
                // From the disk: not on a thread that serves others.
                P::blocking(move || log.read(from, to, max_bytes)).await??
            }
        };
        entries
            .into_iter()
            .map(|entry| Ok(wire::decode_entry(entry.term, entry.index, entry.payload)?))
            .collect()
    }

    /// The part of `range` that the log holds.
    fn held(&self, range: &impl RangeBounds<u64>) -> (u64, u64) {
        let stats = self.log.stats();
        let from = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(index) => index.saturating_add(1),
            Bound::Excluded(index) => *index,
            Bound::Unbounded => u64::MAX,
        };
        let to = to.min(stats.next_index);
        (from.max(stats.first_index).min(to), to)
    }
}

impl<P: Platform> RaftLogReader<TypeConfig<P>> for LogStore<P> {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let (from, to) = self.held(&range);
        self.read(from, to, usize::MAX).await
    }

    /// In batches, so that replaying a long log does not hold all of it in memory.
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = self.held(&range);
        let batches = stream::unfold((self.clone(), from), move |(store, from)| async move {
            if from >= to {
                return None;
            }
            let (entries, next) = match store.read(from, to, BATCH_BYTES).await {
                Ok(entries) if entries.is_empty() => {
                    (vec![Err(io::Error::new(io::ErrorKind::NotFound, format!("entry {from} is gone")))], to)
                }
                Ok(entries) => {
                    let next = from + entries.len() as u64;
                    (entries.into_iter().map(Ok).collect(), next)
                }
                Err(error) => (vec![Err(error)], to),
            };
            Some((stream::iter(entries), (store, next)))
        });
        Box::pin(futures::StreamExt::flatten(batches))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        let Some(bytes) = self.log.vote() else { return Ok(None) };
        let vote =
            v1::RaftVote::decode(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(Some(wire::vote_from_wire(vote)))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.read(start, end, BATCH_BYTES).await
    }
}

impl<P: Platform> RaftLogStorage<TypeConfig<P>> for LogStore<P> {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig<P>>, io::Error> {
        let purged = self.log.purged().map(|purged| log_id(purged.term, purged.index));
        let last = self.log.last().map(|(index, term)| log_id(term, index));
        Ok(LogState { last_purged_log_id: purged, last_log_id: last.or(purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let bytes = Bytes::from(wire::vote_to_wire(vote).encode_to_vec());
        coracle_crash_point::crash_point!("raft.vote.before-save");
        self.log.save_vote(
            bytes,
            Box::new(move |result| {
                // The receiver is gone when openraft is shutting down.
                let _ = sender.send(result);
            }),
        )?;
        receiver.await.map_err(io::Error::other)??;
        coracle_crash_point::crash_point!("raft.vote.after-save");
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let bytes =
            committed.map(|committed| wire::log_id_to_wire(&committed).encode_to_vec()).unwrap_or_default();
        Ok(self.log.save_committed(bytes.into())?)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        let Some(bytes) = self.log.committed().filter(|bytes| !bytes.is_empty()) else { return Ok(None) };
        let committed = v1::RaftLogId::decode(bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(Some(wire::log_id_from_wire(committed)))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig<P>>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<_> = entries
            .into_iter()
            .map(|entry| coracle_wal::Entry {
                index: entry.index(),
                term: term_of(&entry.log_id),
                payload: wire::encode_payload(&entry.payload),
            })
            .collect();
        let Some(first) = entries.first() else {
            callback.io_completed(Ok(()));
            return Ok(());
        };
        let stats = self.log.stats();
        if stats.next_index == 0 && first.index > 0 {
            // Only a log that is put together by hand begins elsewhere.
            self.log.begin_at(first.index)?;
        }
        self.log.append(
            entries,
            Box::new(move |result| callback.io_completed(result.map_err(io::Error::from))),
        )?;
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let since = last_log_id.map_or(self.log.stats().first_index, |last| last.index + 1);
        Ok(self.log.truncate_since(since)?)
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        coracle_crash_point::crash_point!("raft.purge.before");
        Ok(self.log.purge(Purged { index: log_id.index, term: term_of(&log_id) })?)
    }
}
