//! Deciding and reading through Raft: proposals, read barriers, handing leadership over.

use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver as _;
use openraft::error::{
    ClientWriteError, ForwardReason, ForwardToLeader, LinearizableReadError, RaftError as OpenraftError,
};
use openraft::{AsyncRuntime as _, Instant as _, ReadPolicy};

use super::error::{Leader, RaftError};
use super::node::RaftNode;
use super::platform::{Moment, Platform};
use super::settings::COMMAND_LIMIT;
use super::status::RaftStatus;
use super::types::{Command, TypeConfig, term_of};

/// A command that is committed and applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Its position in the log: the version of what it wrote.
    pub index: u64,
    /// The term of its proposer.
    pub term: u64,
    /// What the state answered.
    pub reply: Bytes,
}

/// Wait before a majority is asked again whether this manager leads.
const QUORUM_RETRY: Duration = Duration::from_millis(20);

impl<P: Platform> RaftNode<P> {
    /// The term that this manager leads, as far as it knows. A hint, never a barrier.
    #[must_use]
    pub fn leading_term(&self) -> Option<u64> {
        let status = self.watched_status().borrow();
        status.is_leader().then_some(status.term)
    }

    /// Whether a majority has confirmed within `window` that this manager leads, as heartbeats do all the time. Asks nobody.
    #[must_use]
    pub fn confirmed_within(&self, window: Duration) -> bool {
        let acknowledged = self.raft().metrics().borrow_watched().last_quorum_acked;
        acknowledged.is_some_and(|at| openraft::Instant::elapsed(&at.into_inner()) <= window)
    }

    /// Proposes a command and waits until it is applied here. Many may be under way at once; they share syncs.
    ///
    /// # Errors
    /// [`RaftError::NotLeader`], [`RaftError::Unavailable`] and [`RaftError::TooLarge`]: nothing was done.
    /// [`RaftError::OutcomeUnknown`]: it may have been or may still be done.
    pub async fn propose(&self, command: Bytes, deadline: Duration) -> Result<Committed, RaftError> {
        if command.len() > COMMAND_LIMIT {
            return Err(RaftError::TooLarge { length: command.len(), limit: COMMAND_LIMIT });
        }
        let until = Moment::<P>::now() + deadline;
        let mut lease = LeaseWait::<P>::new(until);
        let result = loop {
            let write = self.raft().client_write(Command(command.clone()));
            let result = P::Runtime::timeout_at(until, write).await.map_err(|_| RaftError::late(deadline))?;
            match &result {
                Err(OpenraftError::APIError(ClientWriteError::ForwardToLeader(forward)))
                    if lease.again(forward).await => {}
                _ => break result,
            }
        };
        match result {
            Ok(response) => Ok(Committed {
                index: response.log_id.index,
                term: term_of(&response.log_id),
                reply: response.data.0,
            }),
            Err(OpenraftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                Err(not_leader(forward, self.raft_id()))
            }
            Err(OpenraftError::APIError(ClientWriteError::LogEntryDiscarded(_))) => {
                Err(RaftError::OutcomeUnknown { reason: "leadership changed meanwhile".to_owned() })
            }
            Err(OpenraftError::APIError(error)) => Err(RaftError::Refused { reason: error.to_string() }),
            Err(OpenraftError::Fatal(fatal)) => Err(RaftError::OutcomeUnknown { reason: fatal.to_string() }),
        }
    }

    /// Waits until the state here has everything that was acknowledged anywhere before the call (ReadIndex: a majority
    /// confirms that this manager still leads). Returns the index that it waited for. On the leader.
    ///
    /// # Errors
    /// [`RaftError::NotLeader`]; [`RaftError::Unavailable`] when no majority confirmed it in time.
    pub async fn read_barrier(&self, deadline: Duration) -> Result<u64, RaftError> {
        let late = || RaftError::Unavailable {
            reason: format!("no majority confirmed this leader within {} ms", deadline.as_millis()),
        };
        P::Runtime::timeout(deadline, self.linearize()).await.map_err(|_| late())?
    }

    async fn linearize(&self) -> Result<u64, RaftError> {
        // After a restart the state is behind what this manager may have shown before, until a leader was heard.
        let mut recovered = self.recovered();
        recovered
            .wait_until(|recovered| *recovered)
            .await
            .map_err(|_| RaftError::Unavailable { reason: "Raft stopped".to_owned() })?;
        let raft = self.raft();
        // `Instant::now` plus the longest wait: the caller's own deadline is around all of this.
        let mut lease = LeaseWait::<P>::new(Moment::<P>::now() + LEASE_WAIT);
        let result = loop {
            let result = raft.get_read_linearizer(ReadPolicy::ReadIndex).await;
            match &result {
                Err(OpenraftError::APIError(LinearizableReadError::ForwardToLeader(forward)))
                    if lease.again(forward).await => {}
                // One heartbeat came too late: a follower that is busy for a moment is no lost majority.
                Err(OpenraftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                    P::Runtime::sleep(QUORUM_RETRY).await;
                }
                _ => break result,
            }
        };
        let linearizer = result.map_err(|error| match error {
            OpenraftError::APIError(LinearizableReadError::ForwardToLeader(forward)) => {
                not_leader(forward, self.raft_id())
            }
            OpenraftError::APIError(error) => RaftError::Unavailable { reason: error.to_string() },
            OpenraftError::Fatal(fatal) => RaftError::Unavailable { reason: fatal.to_string() },
        })?;
        let index = linearizer.read_log_id().index();
        linearizer
            .await_ready(raft)
            .await
            .map_err(|fatal| RaftError::Unavailable { reason: fatal.to_string() })?;
        Ok(index)
    }

    /// Waits until the state here has applied `index`; with an index from the leader's
    /// [`RaftNode::read_barrier`], a follower can serve the read.
    ///
    /// # Errors
    /// [`RaftError::Unavailable`] when it is not in time.
    pub async fn wait_applied(&self, index: u64, deadline: Duration) -> Result<(), RaftError> {
        self.raft()
            .wait(Some(deadline))
            .applied_index_at_least(Some(index), "a read")
            .await
            .map(|_| ())
            .map_err(|error| RaftError::Unavailable { reason: error.to_string() })
    }

    /// Hands leadership to the voter that has most of the log; comes back when another manager leads. On the leader.
    ///
    /// Writes stop at once; if the voter does not take over, they come back after an election.
    ///
    /// # Errors
    /// [`RaftError::NotLeader`]; [`RaftError::Refused`] when there is no other voter; [`RaftError::Unavailable`] when
    /// nobody leads in time.
    pub async fn transfer_leader(&self, deadline: Duration) -> Result<Leader, RaftError> {
        let until = Moment::<P>::now() + deadline;
        let mut metrics = self.raft().metrics();
        let target = best_successor(&RaftStatus::from_metrics(&metrics.borrow_and_update()))?;
        self.raft()
            .trigger()
            .transfer_leader(target)
            .await
            .map_err(|fatal| RaftError::Unavailable { reason: fatal.to_string() })?;
        let me = self.raft_id();
        let other_leads =
            metrics.wait_until(|metrics| metrics.current_leader.is_some_and(|leader| leader != me));
        match P::Runtime::timeout_at(until, other_leads).await {
            Ok(Ok(metrics)) => {
                RaftStatus::from_metrics(&metrics).leader.ok_or(RaftError::NotLeader { leader: None })
            }
            Ok(Err(_)) => Err(RaftError::Unavailable { reason: "Raft stopped".to_owned() }),
            Err(_) => Err(RaftError::Unavailable {
                reason: format!("manager {target} did not take over within {} ms", deadline.as_millis()),
            }),
        }
    }
}

fn best_successor(status: &RaftStatus) -> Result<u64, RaftError> {
    if !status.is_leader() {
        return Err(RaftError::NotLeader { leader: status.leader.clone() });
    }
    status
        .replicated
        .iter()
        .filter(|(raft_id, _)| **raft_id != status.raft_id && status.members.voters.contains_key(raft_id))
        .max_by_key(|(_, matched)| **matched)
        .map(|(raft_id, _)| *raft_id)
        .ok_or_else(|| RaftError::Refused { reason: "there is no other voter to lead".to_owned() })
}

/// How long a leader without a lease is given to get one.
const LEASE_WAIT: Duration = Duration::from_millis(500);

/// A new leader refuses work until a majority answered its first heartbeat, and one that is cut off for ever: wait a
/// little before telling the caller. Nothing was done in either case.
pub(crate) struct LeaseWait<P: Platform> {
    until: Moment<P>,
}

impl<P: Platform> LeaseWait<P> {
    pub(crate) fn new(deadline: Moment<P>) -> Self {
        Self { until: deadline.min(Moment::<P>::now() + LEASE_WAIT) }
    }

    /// Waits a moment if trying again makes sense.
    pub(crate) async fn again(&mut self, forward: &ForwardToLeader<TypeConfig<P>>) -> bool {
        let again = forward.reason == ForwardReason::LeaseExpired && Moment::<P>::now() < self.until;
        if again {
            P::Runtime::sleep(Duration::from_millis(5)).await;
        }
        again
    }
}

pub(crate) fn not_leader<P: Platform>(forward: ForwardToLeader<TypeConfig<P>>, me: u64) -> RaftError {
    if forward.reason == ForwardReason::LeaseExpired {
        return RaftError::Unavailable {
            reason: "this leader has lost contact with the majority".to_owned(),
        };
    }
    match (forward.leader_id, forward.leader_node) {
        // Still leader by name, but handing over.
        (Some(raft_id), _) if raft_id == me => {
            RaftError::Unavailable { reason: format!("this leader cannot decide now ({:?})", forward.reason) }
        }
        (Some(raft_id), member) => RaftError::NotLeader {
            leader: Some(Leader {
                raft_id,
                address: member.map(|member| member.address).unwrap_or_default(),
            }),
        },
        (None, _) => RaftError::NotLeader { leader: None },
    }
}
