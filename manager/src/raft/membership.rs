//! Changing who takes part: learners first, then voters; one change at a time; leadership handed over before leaving.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver as _;
use openraft::error::{ChangeMembershipError, ClientWriteError, RaftError as OpenraftError};
use openraft::{AsyncRuntime as _, ChangeMembers, Instant as _};

use super::error::RaftError;
use super::node::RaftNode;
use super::platform::{Moment, Platform};
use super::requests::{LeaseWait, not_leader};
use super::status::RaftStatus;
use super::types::{Member, TypeConfig};

/// How long to wait before looking again whether another change is over.
const AGAIN: Duration = Duration::from_millis(50);

/// How far a learner may be behind to become a voter, in entries: one round of replication under load.
const CAUGHT_UP: u64 = 256;

type ChangeError<P> = OpenraftError<TypeConfig<P>, ClientWriteError<TypeConfig<P>>>;

impl<P: Platform> RaftNode<P> {
    /// Adds a manager without a vote and waits until it has caught up. On the leader.
    ///
    /// # Errors
    /// [`RaftError::NotLeader`]; [`RaftError::OutcomeUnknown`] when it did not catch up in time (it stays a learner).
    pub async fn add_learner(
        &self,
        raft_id: u64,
        address: &str,
        deadline: Duration,
    ) -> Result<(), RaftError> {
        let until = Moment::<P>::now() + deadline;
        let _change = self.one_change(until, deadline).await?;
        let member = Member { address: address.to_owned() };
        self.change(until, deadline, || self.raft().add_learner(raft_id, member.clone(), false)).await?;
        self.caught_up(raft_id, until, deadline).await
    }

    /// Changes where a member is reached, voter or learner. On the leader.
    ///
    /// # Errors
    /// As [`RaftNode::change_voters`].
    pub async fn set_address(
        &self,
        raft_id: u64,
        address: &str,
        deadline: Duration,
    ) -> Result<(), RaftError> {
        let until = Moment::<P>::now() + deadline;
        let _change = self.one_change(until, deadline).await?;
        // Replacing is safe here: whoever answers at an address has to be the member that is meant.
        let nodes = BTreeMap::from([(raft_id, Member { address: address.to_owned() })]);
        self.change(until, deadline, || {
            self.raft().change_membership(ChangeMembers::SetNodes(nodes.clone()), true)
        })
        .await
    }

    async fn caught_up(&self, raft_id: u64, until: Moment<P>, deadline: Duration) -> Result<(), RaftError> {
        let mut metrics = self.raft().metrics();
        loop {
            {
                let status = RaftStatus::from_metrics(&metrics.borrow_and_update());
                if !status.is_leader() {
                    return Err(RaftError::NotLeader { leader: status.leader });
                }
                let matched = status.replicated.get(&raft_id).copied().flatten();
                if matched.is_some() && matched.map(|index| index + CAUGHT_UP) >= status.last_log {
                    return Ok(());
                }
            }
            match P::Runtime::timeout_at(until, metrics.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(RaftError::Unavailable { reason: "Raft stopped".to_owned() }),
                Err(_) => return Err(RaftError::late(deadline)),
            }
        }
    }

    /// Gives a learner a vote. On the leader.
    ///
    /// # Errors
    /// As [`RaftNode::change_voters`].
    pub async fn promote(&self, raft_id: u64, deadline: Duration) -> Result<(), RaftError> {
        let mut voters: BTreeSet<u64> = self.wanted_voters();
        voters.insert(raft_id);
        self.change_voters(voters, deadline).await
    }

    /// Makes exactly these managers the voters; each must be a member already. Managers that lose their vote leave. On
    /// the leader. Comes back when the change is complete; may be repeated.
    ///
    /// # Errors
    /// [`RaftError::NotLeader`]; [`RaftError::Refused`]; [`RaftError::OutcomeUnknown`] when no majority confirmed it in
    /// time: the change may be half done, and the next leader completes it when asked again.
    pub async fn change_voters(&self, voters: BTreeSet<u64>, deadline: Duration) -> Result<(), RaftError> {
        let until = Moment::<P>::now() + deadline;
        let _change = self.one_change(until, deadline).await?;
        self.set_voters(voters, until, deadline).await
    }

    async fn set_voters(
        &self,
        voters: BTreeSet<u64>,
        until: Moment<P>,
        deadline: Duration,
    ) -> Result<(), RaftError> {
        self.change(until, deadline, || {
            self.raft().change_membership(ChangeMembers::ReplaceAllVoters(voters.clone()), false)
        })
        .await
    }

    /// Completes a change that an earlier leader began. Does nothing when there is none. On the leader.
    ///
    /// # Errors
    /// As [`RaftNode::change_voters`].
    pub(crate) async fn complete_change(&self, deadline: Duration) -> Result<(), RaftError> {
        let until = Moment::<P>::now() + deadline;
        let Ok(_change) = self.changing().try_lock_owned() else { return Ok(()) };
        let target = self.status().borrow().members.changing_to.clone();
        match target {
            Some(voters) => self.set_voters(voters, until, deadline).await,
            None => Ok(()),
        }
    }

    /// Removes a manager, voter or learner. On the leader; a leader that is to remove itself hands leadership over
    /// first and answers [`RaftError::NotLeader`] with the new leader, which is then to be asked.
    ///
    /// # Errors
    /// As [`RaftNode::change_voters`].
    pub async fn remove(&self, raft_id: u64, deadline: Duration) -> Result<(), RaftError> {
        let until = Moment::<P>::now() + deadline;
        if raft_id == self.raft_id() && self.status().borrow().is_leader() {
            let leader = self.transfer_leader(deadline).await?;
            return Err(RaftError::NotLeader { leader: Some(leader) });
        }
        let _change = self.one_change(until, deadline).await?;
        let mut voters = self.wanted_voters();
        if voters.remove(&raft_id) {
            if voters.is_empty() {
                return Err(RaftError::Refused { reason: "the last voter cannot be removed".to_owned() });
            }
            self.set_voters(voters, until, deadline).await?;
        }
        if self.status().borrow().members.address(raft_id).is_some() {
            let gone = BTreeSet::from([raft_id]);
            self.change(until, deadline, || {
                self.raft().change_membership(ChangeMembers::RemoveNodes(gone.clone()), false)
            })
            .await?;
        }
        Ok(())
    }

    /// The voters when the change in progress (if any) is complete.
    fn wanted_voters(&self) -> BTreeSet<u64> {
        let status = self.status();
        let members = &status.borrow().members;
        members.changing_to.clone().unwrap_or_else(|| members.voters.keys().copied().collect())
    }

    /// openraft leaves the membership joint when two changes meet, so there is one at a time.
    async fn one_change(
        &self,
        until: Moment<P>,
        deadline: Duration,
    ) -> Result<tokio::sync::OwnedMutexGuard<()>, RaftError> {
        let refused = RaftError::Unavailable {
            reason: format!("another membership change is not over after {} ms", deadline.as_millis()),
        };
        P::Runtime::timeout_at(until, self.changing().lock_owned()).await.map_err(|_| refused)
    }

    /// Makes a change; waits while an earlier one (of another leader) is not committed.
    async fn change<T, Change>(
        &self,
        until: Moment<P>,
        deadline: Duration,
        change: impl Fn() -> Change,
    ) -> Result<(), RaftError>
    where
        Change: Future<Output = Result<T, ChangeError<P>>> + Send,
    {
        let mut lease = LeaseWait::<P>::new(until);
        loop {
            // A leader that its own members no longer name ends when they are committed, and openraft's core panics, where its
            // assertions are on, if it is to change them again just then.
            let status = RaftStatus::from_metrics(&self.raft().metrics().borrow_watched());
            if status.is_leader() && !status.members.voters.contains_key(&self.raft_id()) {
                return Err(RaftError::NotLeader { leader: None });
            }
            let result =
                P::Runtime::timeout_at(until, change()).await.map_err(|_| RaftError::late(deadline))?;
            let error = match result {
                Ok(_) => return Ok(()),
                Err(OpenraftError::APIError(error)) => error,
                Err(OpenraftError::Fatal(fatal)) => {
                    return Err(RaftError::OutcomeUnknown { reason: fatal.to_string() });
                }
            };
            match error {
                ClientWriteError::ForwardToLeader(forward) if lease.again(&forward).await => {}
                ClientWriteError::ForwardToLeader(forward) => {
                    return Err(not_leader(forward, self.raft_id()));
                }
                ClientWriteError::LogEntryDiscarded(_) => {
                    return Err(RaftError::OutcomeUnknown {
                        reason: "leadership changed meanwhile".to_owned(),
                    });
                }
                ClientWriteError::ChangeMembershipError(
                    ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_),
                ) if Moment::<P>::now() + AGAIN < until => P::Runtime::sleep(AGAIN).await,
                error => return Err(RaftError::Refused { reason: error.to_string() }),
            }
        }
    }
}
