//! Health checks of one container: what is checked, and what the results mean.
//!
//! Pure. Whoever owns a [`Monitor`] waits as long as it says, runs the check, and hands in the result.
//! While nothing has succeeded yet a check is run at least every start interval, so that a container that serves is known
//! soon; failures count only after the start period, and then one per interval, so that none is given up early.

mod effective;

use std::time::Duration;

use coracle_model::health::{HealthCheck, HealthResult, OUTPUT_KEPT, RESULTS_KEPT};
use coracle_model::task::{Health, HealthState};

pub(crate) use effective::effective;

/// Bytes that are kept of the output of a check that is not the last: results travel with every change of health, and a
/// node may have many tasks.
const EARLIER_OUTPUT_KEPT: usize = 256;
/// Characters of the last output that become the task's error.
const TOLD: usize = 300;

/// The checks of one container since its start.
#[derive(Debug)]
pub(crate) struct Monitor {
    check: HealthCheck,
    health: Health,
    /// Since the start: waits and checks added up, so that a clock that jumps changes nothing.
    elapsed: Duration,
    /// When, by the same measure, the last failure was counted.
    counted: Duration,
}

impl Monitor {
    /// Goes on with what is known, so long after the start.
    pub(crate) fn new(check: HealthCheck, elapsed: Duration, known: Health) -> Self {
        let counted = if known.failures > 0 { elapsed } else { Duration::ZERO };
        Self { check, health: known, elapsed, counted }
    }

    pub(crate) fn check(&self) -> &HealthCheck {
        &self.check
    }

    pub(crate) fn health(&self) -> &Health {
        &self.health
    }

    /// How long to wait before the next check.
    pub(crate) fn wait(&self) -> Duration {
        if self.health.state != HealthState::Starting {
            return self.check.interval;
        }
        let wait = self.check.interval.min(self.check.start_interval);
        match self.counts_from().saturating_sub(self.elapsed) {
            Duration::ZERO => wait,
            due => wait.min(due),
        }
    }

    /// From when on a failure counts before the first success.
    fn counts_from(&self) -> Duration {
        self.check.start_period.max(self.counted.saturating_add(self.check.interval))
    }

    /// Takes the result of the check that was begun after [`Self::wait`]. Returns whether it is news: another state,
    /// another count of failures, or the first result of all.
    pub(crate) fn take(&mut self, result: HealthResult) -> bool {
        let began = self.elapsed.saturating_add(self.wait());
        self.elapsed = began.saturating_add(result.took);
        let before = (self.health.state, self.health.failures, self.health.results.is_empty());
        if result.code == Some(0) {
            self.health.state = HealthState::Healthy;
            self.health.failures = 0;
        } else if self.health.state != HealthState::Starting || began >= self.counts_from() {
            self.health.failures = self.health.failures.saturating_add(1);
            self.counted = self.elapsed;
            if self.health.failures >= self.check.retries {
                self.health.state = HealthState::Unhealthy;
            }
        }
        self.keep(result);
        before != (self.health.state, self.health.failures, false)
    }

    fn keep(&mut self, mut result: HealthResult) {
        shorten(&mut result.output, OUTPUT_KEPT);
        let results = &mut self.health.results;
        if let Some(last) = results.last_mut() {
            shorten(&mut last.output, EARLIER_OUTPUT_KEPT);
        }
        results.push(result);
        let surplus = results.len().saturating_sub(RESULTS_KEPT);
        results.drain(..surplus);
    }
}

/// Cuts at the end of a character.
fn shorten(text: &mut String, bytes: usize) {
    text.truncate(text.floor_char_boundary(bytes));
}

/// Why a container was given up by its check, in one line; none if it was not.
pub(crate) fn why_unhealthy(health: Option<&Health>) -> Option<String> {
    let health = health.filter(|health| health.state == HealthState::Unhealthy)?;
    let Some(last) = health.results.last() else { return Some("unhealthy".to_owned()) };
    let words: Vec<&str> = last.output.split_whitespace().collect();
    let output: String = words.join(" ").chars().take(TOLD).collect();
    Some(match (output.is_empty(), last.code) {
        (false, _) => format!("unhealthy: {output}"),
        (true, Some(code)) => {
            format!("unhealthy: the check ended with exit status {code} and printed nothing")
        }
        (true, None) => "unhealthy: the check could not be run to its end".to_owned(),
    })
}

#[cfg(test)]
mod tests;
