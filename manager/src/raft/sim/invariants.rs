//! What must hold whenever one looks at a cluster; one file each.

use openraft::RaftMetrics;

use super::host::Running;
use super::runtime::Simulated;
use super::world::World;
use crate::raft::types::TypeConfig;

mod committed_is_on_a_quorum;
mod figures_are_in_order;
mod figures_only_rise;
mod leaders_are_complete;
mod logs_match;
mod one_leader_per_term;
mod states_agree;

/// What one sees of a manager.
pub(super) struct Sight {
    pub(super) raft_id: u64,
    /// Which of its lives it is.
    pub(super) life: u64,
    pub(super) metrics: RaftMetrics<TypeConfig<Simulated>>,
    pub(super) running: Running,
}

/// What one sees of a cluster at one moment.
pub(super) struct Look<'world> {
    pub(super) world: &'world World,
    pub(super) sights: Vec<Sight>,
    /// How often it was looked at.
    pub(super) tick: u64,
}

/// Something that must always hold.
pub(super) trait Invariant: Send {
    /// What is wrong, if anything.
    fn check(&mut self, look: &Look<'_>) -> Result<(), String>;
}

/// All of them. That all apply the same commands, and that nobody votes twice, is checked where it happens.
pub(super) fn all() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::new(one_leader_per_term::OneLeaderPerTerm::default()),
        Box::new(figures_are_in_order::FiguresAreInOrder),
        Box::new(figures_only_rise::FiguresOnlyRise::default()),
        Box::new(logs_match::LogsMatch::default()),
        Box::new(leaders_are_complete::LeadersAreComplete::default()),
        Box::new(committed_is_on_a_quorum::CommittedIsOnAQuorum::default()),
        Box::new(states_agree::StatesAgree::default()),
    ]
}
