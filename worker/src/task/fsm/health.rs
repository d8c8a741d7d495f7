//! The health check in the machine: it runs while the process does, decides when a starting task runs, and ends what does
//! not serve.

use coracle_model::health::HealthResult;
use coracle_model::task::{Health, HealthState, TaskState};
use coracle_model::time::Timestamp;

use super::{Action, Machine};
use crate::health::Monitor;

impl Machine {
    /// With a check it is not said to run before the first success; but what managers were told is not taken back.
    pub(super) fn state_when_started(&self) -> TaskState {
        if self.check.is_some() && self.status.state <= TaskState::Starting {
            TaskState::Starting
        } else {
            TaskState::Running
        }
    }

    /// Its checks said so often enough that it fails.
    pub(super) fn is_unhealthy(&self) -> bool {
        self.status.health.as_ref().is_some_and(|health| health.state == HealthState::Unhealthy)
    }

    /// The process runs: goes on with what earlier checks of it found.
    pub(super) fn begin_checks(&mut self, now: Timestamp) -> Option<Action> {
        let check = self.check.clone()?;
        let known = self.status.health.get_or_insert_with(Health::default).clone();
        let monitor = Monitor::new(check, now.since(self.status.since), known);
        let wait = monitor.wait();
        self.monitor = Some(monitor);
        Some(Action::Timer(wait))
    }

    pub(super) fn end_checks(&mut self, timer_too: bool) -> Vec<Action> {
        match self.monitor.take() {
            None => Vec::new(),
            Some(_) if timer_too => vec![Action::CancelTimer, Action::CancelCheck],
            Some(_) => vec![Action::CancelCheck],
        }
    }

    pub(super) fn check_again(&self) -> Vec<Action> {
        let check = self.monitor.as_ref().map(Monitor::check);
        let action =
            check.map(|check| Action::Check { command: check.command.clone(), timeout: check.timeout });
        action.into_iter().collect()
    }

    pub(super) fn checked(&mut self, now: Timestamp, result: HealthResult) -> Vec<Action> {
        let Some(monitor) = &mut self.monitor else { return Vec::new() };
        let is_news = monitor.take(result);
        let (state, wait) = (monitor.health().state, monitor.wait());
        if is_news {
            self.status.health = Some(monitor.health().clone());
        }
        match state {
            // Stopping it follows from that.
            HealthState::Unhealthy => return Vec::new(),
            HealthState::Healthy if self.status.state < TaskState::Running => {
                self.rise(now, TaskState::Running, "started, healthy");
            }
            HealthState::Healthy | HealthState::Starting => {}
        }
        vec![Action::Timer(wait)]
    }
}
