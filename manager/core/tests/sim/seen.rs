//! What went on when a leader changed: the simulation is worth little if nothing did.
#![allow(unreachable_pub, reason = "a part of a test")]

use coracle_manager_core::State;
use coracle_model::node::Availability;
use coracle_model::service::{Service, ServiceMode};
use coracle_model::task::Task;

/// How often a leader changed in the middle of what.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    moves: u32,
    updates: u32,
    rollbacks: u32,
    drains: u32,
    jobs: u32,
    global_jobs: u32,
    scheduled_jobs: u32,
    claims: u32,
    /// Updates that ended since nothing went forward.
    overdue: u32,
}

impl Seen {
    pub fn leader_changed(&mut self, state: &State) {
        let any = |of: &dyn Fn(&Service) -> bool| u32::from(state.services().any(|service| of(service)));
        let update = |service: &Service, back: bool| {
            service
                .update
                .as_ref()
                .is_some_and(|update| update.state.is_active() && update.state.is_rollback() == back)
        };
        let runs =
            |service: &Service| service.job.as_ref().is_some_and(|job| job.run > 0 && job.ended_at.is_none());
        let waits_for_drain = |task: &Task| {
            let node = task.node.and_then(|node| state.node(node));
            task.may_run() && node.is_some_and(|node| node.spec.availability == Availability::Drain)
        };
        self.moves +=
            any(&|service| service.rebalance.as_ref().is_some_and(|progress| progress.moving.is_some()));
        self.updates += any(&|service| update(service, false));
        self.rollbacks += any(&|service| update(service, true));
        self.drains += u32::from(state.tasks().any(|task| waits_for_drain(task)));
        self.jobs +=
            any(&|service| runs(service) && matches!(service.spec.mode, ServiceMode::ReplicatedJob { .. }));
        self.global_jobs += any(&|service| runs(service) && service.spec.mode == ServiceMode::GlobalJob);
        self.scheduled_jobs += any(&|service| runs(service) && service.spec.job.schedule.is_some());
        self.claims += u32::from(state.tasks().any(|task| !task.generic.is_empty() && !task.is_running()));
    }

    /// Looks whether an update came to its time-out.
    pub fn look(&mut self, state: &State) {
        let overdue = |service: &Service| {
            service.update.as_ref().is_some_and(|update| update.message.contains("nothing went forward"))
        };
        self.overdue += u32::from(state.services().any(|service| overdue(service)));
    }

    pub fn add(&mut self, other: &Self) {
        for (mine, others) in self.each().into_iter().zip(other.clone().each()) {
            *mine += *others;
        }
    }

    pub fn is_everything(&self) -> bool {
        self.clone().each().into_iter().all(|count| *count > 0)
    }

    fn each(&mut self) -> [&mut u32; 9] {
        [
            &mut self.moves,
            &mut self.updates,
            &mut self.rollbacks,
            &mut self.drains,
            &mut self.jobs,
            &mut self.global_jobs,
            &mut self.scheduled_jobs,
            &mut self.claims,
            &mut self.overdue,
        ]
    }
}
