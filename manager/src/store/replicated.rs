//! The state that Raft applies to, and the feed of what each batch touched.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use coracle_manager_core::{Outcome, Refusal, RefusalKind, State, Touched, View, apply};
use prost::bytes::Bytes;
use tokio::sync::broadcast;
use tracing::error;

use crate::codec;
use crate::raft::{ReplicatedState, SnapshotView};

/// Touched sets that a slow watcher may lag behind before it is told to look at everything.
const FEED: usize = 4096;

/// The replicated state of this manager: one writer (Raft), many readers without a lock.
#[derive(Debug)]
pub struct Replicated {
    writer: Mutex<Writer>,
    published: ArcSwap<State>,
    /// Term of the last entry in `published`; written after it.
    term: AtomicU64,
    feed: broadcast::Sender<Arc<Touched>>,
}

/// What is applied, and what the present batch touched so far.
#[derive(Debug, Default)]
struct Writer {
    state: State,
    touched: Touched,
    restored: bool,
}

/// What a watcher wakes up to.
#[derive(Debug, Clone)]
pub enum Wake {
    /// These keys were touched.
    Touched(Arc<Touched>),
    /// Too much happened: look at everything.
    Resync,
    /// The store is gone.
    Closed,
}

/// A watcher's end of the feed.
#[derive(Debug)]
pub struct TouchedReceiver(broadcast::Receiver<Arc<Touched>>);

impl TouchedReceiver {
    /// The next touched keys. Safe to cancel.
    pub async fn next(&mut self) -> Wake {
        match self.0.recv().await {
            // A restored state touches nothing in particular.
            Ok(touched) if touched.is_empty() => Wake::Resync,
            Ok(touched) => Wake::Touched(touched),
            Err(broadcast::error::RecvError::Lagged(_)) => Wake::Resync,
            Err(broadcast::error::RecvError::Closed) => Wake::Closed,
        }
    }
}

impl Default for Replicated {
    fn default() -> Self {
        let writer = Writer::default();
        Self {
            published: ArcSwap::from_pointee(writer.state.clone()),
            term: AtomicU64::new(0),
            writer: Mutex::new(writer),
            feed: broadcast::channel(FEED).0,
        }
    }
}

impl Replicated {
    /// An immutable snapshot.
    #[must_use]
    pub fn view(&self) -> View {
        self.published.load_full()
    }

    /// Term of the last entry that was applied; every view taken afterwards has that entry. Zero before the first.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.term.load(Ordering::Acquire)
    }

    /// Touched keys from now on.
    #[must_use]
    pub fn watch(&self) -> TouchedReceiver {
        TouchedReceiver(self.feed.subscribe())
    }

    fn with<T>(&self, action: impl FnOnce(&mut Writer) -> T) -> T {
        action(&mut self.writer.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ReplicatedState for Replicated {
    fn apply(&self, index: u64, term: u64, command: &[u8]) -> Bytes {
        let outcome = match codec::decode_proposal(command) {
            Ok(proposal) => self.with(|writer| {
                let (outcome, touched) = apply(&mut writer.state, index, term, &proposal);
                writer.touched.merge(touched);
                outcome
            }),
            Err(problem) => {
                // Deterministic: every manager of this version refuses the same entry.
                error!(index, %problem, "an entry of the log cannot be read and is refused");
                Outcome::Refused(Refusal { kind: RefusalKind::Malformed, message: problem.to_string() })
            }
        };
        codec::encode_outcome(&outcome).into()
    }

    fn batch_applied(&self, _index: u64, term: u64) {
        let touched = self.with(|writer| {
            let restored = std::mem::take(&mut writer.restored);
            let touched = std::mem::take(&mut writer.touched);
            // Also when nothing was touched: the index of a view says which entries it includes, on every manager alike.
            self.published.store(Arc::new(writer.state.clone()));
            (restored || !touched.is_empty()).then(|| if restored { Touched::default() } else { touched })
        });
        self.term.store(term, Ordering::Release);
        if let Some(touched) = touched {
            // Nobody listening is no error.
            let _ = self.feed.send(Arc::new(touched));
        }
    }

    fn snapshot(&self) -> SnapshotView {
        let state = self.with(|writer| writer.state.clone());
        Box::new(move |writer: &mut dyn Write| codec::write_snapshot(&state, writer))
    }

    fn restore(&self, index: u64, term: u64, reader: &mut dyn Read) -> io::Result<()> {
        let state = codec::read_snapshot(reader)?;
        self.with(|writer| *writer = Writer { state, touched: Touched::default(), restored: true });
        self.batch_applied(index, term);
        Ok(())
    }
}
