//! How everybody reads and writes the replicated state.
//!
//! - [`Store::view`] is an immutable snapshot: what this manager has applied.
//! - [`Store::barrier`] makes the next view at least as new as every write acknowledged before the call.
//! - [`Store::decide`] looks, decides and writes, for requests of clients.
//! - [`Store::propose`] writes: all changes or none, answered when a majority has synced and this manager applied it.
//! - [`Store::settle`] waits until nothing that this manager proposed is under way any more, whoever waits for it or does not.
//! - [`Store::watch`] tells which keys were touched; whoever is too slow is told to look at everything.

mod barrier;
mod clock;
mod decide;
mod replicated;

#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;
use std::time::Duration;

use coracle_manager_core::state::View;
use coracle_manager_core::{Change, Outcome, Proposal, Refusal, RefusalKind};
use coracle_model::id::IdempotencyKey;
use coracle_model::time::Timestamp;
use coracle_model::version::Version;
use coracle_proto::status::{ApiError, Reason};

pub use decide::Decision;
pub use replicated::{Replicated, TouchedReceiver, Wake};

use barrier::Barriers;
use clock::ClusterClock;

use crate::codec;
use crate::raft::{RaftError, RaftNode};
use crate::reserve::{self, Reserve, Shortage};

/// Longest wait for a write, after which its outcome is unknown to the caller.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// Longest wait for the confirmation that this manager still leads.
pub const READ_DEADLINE: Duration = Duration::from_secs(5);
/// Most bytes of one entry; larger work is split by whoever proposes it.
pub const ENTRY_LIMIT: usize = 3 << 19;

/// The author of what no operator asked for.
const CONTROL_PLANE: &str = "manager";

/// A handle on the replicated state; cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    raft: RaftNode,
    replicated: Arc<Replicated>,
    reserve: Arc<Reserve>,
    barriers: Barriers,
    clock: Arc<ClusterClock>,
}

/// A write that is to be made.
#[derive(Debug, Clone)]
pub struct Write {
    /// What changes.
    pub changes: Vec<Change>,
    /// Who asked.
    pub actor: String,
    /// Why, for the event log.
    pub reason: &'static str,
    /// So that a retry is recognised.
    pub idempotency: Option<IdempotencyKey>,
    /// The term in which this was decided; zero when it does not matter who leads.
    pub term: u64,
}

impl Write {
    /// A write of the control plane itself.
    #[must_use]
    pub fn internal(reason: &'static str, changes: Vec<Change>) -> Self {
        Self { changes, actor: CONTROL_PLANE.to_owned(), reason, idempotency: None, term: 0 }
    }
}

impl Store {
    /// Joins a Raft node and the state that it applies to, with the room that is kept back for the cluster's own writes.
    #[must_use]
    pub fn new(raft: RaftNode, replicated: Arc<Replicated>, reserve: Reserve) -> Self {
        let (barriers, clock) = (Barriers::default(), Arc::default());
        Self { raft, replicated, reserve: Arc::new(reserve), barriers, clock }
    }

    /// What this manager has applied.
    #[must_use]
    pub fn view(&self) -> View {
        self.replicated.view()
    }

    /// The present by cluster time: what everything that waits is planned by.
    #[must_use]
    pub fn present(&self) -> Timestamp {
        self.clock.present(self.view().time())
    }

    /// The Raft node below.
    #[must_use]
    pub const fn raft(&self) -> &RaftNode {
        &self.raft
    }

    /// Touched keys from now on.
    #[must_use]
    pub fn watch(&self) -> TouchedReceiver {
        self.replicated.watch()
    }

    /// Whether this manager's disk has too little room. Nothing when it cannot be told: a disk that does not answer fails
    /// the log, which says more.
    #[must_use]
    pub fn shortage(&self) -> Option<Shortage> {
        self.reserve.shortage(self.raft.space().ok()?)
    }

    /// Refuses what an operator asks for when it would use up the room that the cluster's own writes need.
    fn admit(&self, write: &Write) -> Result<(), ApiError> {
        if write.actor == CONTROL_PLANE {
            return Ok(());
        }
        match self.shortage() {
            Some(shortage) if !reserve::relieves(&write.changes, &self.view()) => {
                let status = self.raft.status().borrow().clone();
                Err(shortage.refusal(status.leader.as_ref().map_or("?", |leader| &leader.address)))
            }
            _ => Ok(()),
        }
    }

    /// Waits until this manager, which must lead, has applied every write acknowledged so far. Reads that wait at the same time
    /// share one confirmation by a majority.
    ///
    /// # Errors
    /// If it does not lead or cannot reach a majority.
    pub async fn barrier(&self) -> Result<View, ApiError> {
        let raft = self.raft.clone();
        let confirm = move || {
            let raft = raft.clone();
            async move { raft.read_barrier(READ_DEADLINE).await.map(drop).map_err(raft_error) }
        };
        self.barriers.pass(confirm).await?;
        Ok(self.view())
    }

    /// Waits until everything that this manager proposed in `term` before the call is decided: the view has it, or it will never be
    /// written. Also what nobody waits for any more.
    ///
    /// A barrier does not tell that: it waits for what is committed, and what no majority has yet may be committed after it. This is
    /// an entry behind all of them: one leader's proposals reach the log in the order in which they are made.
    ///
    /// # Errors
    /// If this manager does not lead that term, or if it is not known in time.
    pub async fn settle(&self, term: u64) -> Result<View, ApiError> {
        self.propose(Write { term, ..Write::internal("what is under way is decided", Vec::new()) }).await?;
        Ok(self.view())
    }

    /// Writes.
    ///
    /// # Errors
    /// If a rule refuses it, if room on the disk is short, if this manager does not lead, or if the outcome is unknown.
    pub async fn propose(&self, write: Write) -> Result<Version, ApiError> {
        self.admit(&write)?;
        let proposal = Proposal {
            changes: write.changes,
            actor: write.actor,
            reason: write.reason.to_owned(),
            time: self.present(),
            idempotency: write.idempotency,
            term: write.term,
        };
        let entry = codec::encode_proposal(&proposal);
        if entry.len() > ENTRY_LIMIT {
            return Err(ApiError::new(
                Reason::TooLarge,
                format!("the write has {} bytes; at most {ENTRY_LIMIT} are possible", entry.len()),
            ));
        }
        let committed = self.raft.propose(entry.into(), WRITE_DEADLINE).await.map_err(raft_error)?;
        match codec::decode_outcome(&committed.reply) {
            Ok(Outcome::Applied(version)) => Ok(version),
            Ok(Outcome::Refused(refusal)) => Err(refused(refusal)),
            Err(error) => Err(ApiError::new(
                Reason::Internal,
                format!("the outcome of the write cannot be read: {error}"),
            )),
        }
    }
}

/// The present time by this machine's clock.
#[must_use]
pub fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_nanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

fn refused(refusal: Refusal) -> ApiError {
    let reason = match refusal.kind {
        RefusalKind::NotFound => Reason::NotFound,
        RefusalKind::Stale => Reason::Stale,
        RefusalKind::Exists => Reason::Exists,
        RefusalKind::Forbidden => Reason::Forbidden,
        RefusalKind::NotLeader => Reason::NotLeader,
        RefusalKind::Malformed => Reason::Internal,
    };
    let error = ApiError::new(reason, refusal.message);
    match reason {
        Reason::Exists => error.with_hint("choose another name, or change or remove what has it"),
        Reason::Stale => error.with_hint("somebody has changed it meanwhile: look at it, and try again"),
        _ => error,
    }
}

/// What a caller is told when Raft could not take a write or a read.
#[must_use]
pub fn raft_error(error: RaftError) -> ApiError {
    let reason = match &error {
        RaftError::NotLeader { .. } => Reason::NotLeader,
        RaftError::Unavailable { .. } => Reason::Unavailable,
        RaftError::OutcomeUnknown { .. } => Reason::OutcomeUnknown,
        RaftError::TooLarge { .. } => Reason::TooLarge,
        RaftError::Refused { .. } => Reason::Forbidden,
    };
    ApiError::new(reason, error.to_string())
}
