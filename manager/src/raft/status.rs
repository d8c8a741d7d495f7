//! What Raft is doing, for whoever wants to know.

use std::collections::{BTreeMap, BTreeSet};

use openraft::{RaftMetrics, ServerState};

use super::error::Leader;
use super::platform::Platform;
use super::types::{Membership, TypeConfig};

/// This manager's part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Role {
    /// Takes part without a vote, or not yet.
    #[default]
    Learner,
    /// Follows a leader, or waits for one.
    Follower,
    /// Stands for election.
    Candidate,
    /// Leads.
    Leader,
    /// Stopped or failed.
    Stopped,
}

/// Who takes part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members {
    /// Addresses of those with a vote, by Raft id.
    pub voters: BTreeMap<u64, String>,
    /// Addresses of those that only receive the log, by Raft id.
    pub learners: BTreeMap<u64, String>,
    /// The voters that the change in progress leads to; `None` when no change is in progress.
    pub changing_to: Option<BTreeSet<u64>>,
}

impl Members {
    /// The address of a member.
    #[must_use]
    pub fn address(&self, raft_id: u64) -> Option<&str> {
        self.voters.get(&raft_id).or_else(|| self.learners.get(&raft_id)).map(String::as_str)
    }

    pub(crate) fn from_membership(membership: &Membership) -> Self {
        let voter_ids: BTreeSet<u64> = membership.voter_ids().collect();
        let (voters, learners) = membership
            .nodes()
            .map(|(raft_id, member)| (*raft_id, member.address.clone()))
            .partition(|(raft_id, _)| voter_ids.contains(raft_id));
        let sets = membership.get_joint_config();
        let changing_to = if sets.len() > 1 { sets.last().cloned() } else { None };
        Self { voters, learners, changing_to }
    }
}

/// A summary of what Raft is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RaftStatus {
    /// This manager.
    pub raft_id: u64,
    /// Its part.
    pub role: Role,
    /// The current term.
    pub term: u64,
    /// The leader, if one is known.
    pub leader: Option<Leader>,
    /// Index of the last entry in the log.
    pub last_log: Option<u64>,
    /// Index of the last entry known to be committed.
    pub committed: Option<u64>,
    /// Index of the last entry applied.
    pub applied: Option<u64>,
    /// Index of the last entry that a snapshot covers.
    pub snapshot: Option<u64>,
    /// Who takes part.
    pub members: Members,
    /// Leader only: the last entry that each other manager has confirmed.
    pub replicated: BTreeMap<u64, Option<u64>>,
}

impl RaftStatus {
    /// Whether this manager leads.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.role == Role::Leader
    }

    pub(crate) fn from_metrics<P: Platform>(metrics: &RaftMetrics<TypeConfig<P>>) -> Self {
        let members = Members::from_membership(metrics.membership_config.membership());
        let leader = metrics.current_leader.map(|raft_id| Leader {
            raft_id,
            address: members.address(raft_id).unwrap_or_default().to_owned(),
        });
        Self {
            raft_id: metrics.id,
            role: role(metrics),
            term: metrics.current_term,
            leader,
            last_log: metrics.last_log_index,
            committed: metrics.local_committed.map(|log_id| log_id.index),
            applied: metrics.last_applied.map(|log_id| log_id.index),
            snapshot: metrics.snapshot.map(|log_id| log_id.index),
            members,
            replicated: metrics
                .replication
                .iter()
                .flatten()
                .map(|(raft_id, matched)| (*raft_id, matched.map(|log_id| log_id.index)))
                .collect(),
        }
    }
}

fn role<P: Platform>(metrics: &RaftMetrics<TypeConfig<P>>) -> Role {
    if metrics.running_state.is_err() {
        return Role::Stopped;
    }
    match metrics.state {
        ServerState::Learner => Role::Learner,
        ServerState::Follower => Role::Follower,
        ServerState::Candidate => Role::Candidate,
        ServerState::Leader => Role::Leader,
        ServerState::Shutdown => Role::Stopped,
    }
}
