//! Whether a task whose end cannot be reported is started again on this node.
//!
//! Pure. The managers decide as long as one can be reached; this stands in for them while none can, by the same
//! policy, counting only the starts made here.

use std::time::Duration;

use coracle_model::restart::{RestartCondition, RestartPolicy};
use coracle_model::task::TaskState;
use coracle_model::time::Timestamp;

/// Starts remembered at most, whatever the policy asks for.
const REMEMBERED: usize = 1000;

/// Wait before a start by this node at least: it grows while the program keeps ending soon after its start, since no
/// manager is there who would notice.
const FLOOR: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// A program that ran for so long did not end because it was started.
const STEADY: Duration = Duration::from_secs(60);

/// How often in a row a program ended soon after this node started it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CrashLoop {
    started: Option<Timestamp>,
    ends: u32,
}

impl CrashLoop {
    pub(crate) fn started(&mut self, now: Timestamp) {
        self.started = Some(now);
    }

    /// It ended, or could not be made; returns the wait from then on at least.
    pub(crate) fn ended(&mut self, ended: Timestamp) -> Duration {
        if self.started.take().is_some_and(|started| ended.since(started) >= STEADY) {
            self.ends = 0;
        }
        let floor = FLOOR.0.saturating_mul(1 << self.ends.min(16)).min(FLOOR.1);
        self.ends = self.ends.saturating_add(1);
        floor
    }
}

/// When this node started the task again by itself, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct History(Vec<Timestamp>);

impl History {
    pub(crate) fn new(starts: Vec<Timestamp>) -> Self {
        Self(starts)
    }

    pub(crate) fn starts(&self) -> &[Timestamp] {
        &self.0
    }

    /// Remembers a start, as far as the policy will ever ask for it.
    pub(crate) fn record(&mut self, policy: &RestartPolicy, now: Timestamp) {
        if policy.max_attempts == 0 {
            return;
        }
        if !policy.window.is_zero() {
            self.0.retain(|start| now.since(*start) < policy.window);
        }
        self.0.push(now);
        let surplus = self.0.len().saturating_sub(REMEMBERED);
        self.0.drain(..surplus);
    }

    fn attempts(&self, policy: &RestartPolicy, now: Timestamp) -> u64 {
        let counts = |start: &&Timestamp| policy.window.is_zero() || now.since(**start) < policy.window;
        self.0.iter().filter(counts).count() as u64
    }

    /// How long after `now` to start a task again that ended in this state at `ended`, at least `floor` after that; none if
    /// the policy forbids it. What was unhealthy has failed, whatever its program said when it was asked to stop.
    pub(crate) fn next_start(
        &self,
        policy: &RestartPolicy,
        state: TaskState,
        ended: Timestamp,
        floor: Duration,
        now: Timestamp,
    ) -> Option<Duration> {
        let wanted = match policy.condition {
            RestartCondition::None => false,
            RestartCondition::OnFailure => state != TaskState::Complete,
            RestartCondition::Any => true,
        };
        let spent = policy.max_attempts > 0 && self.attempts(policy, now) >= policy.max_attempts;
        (wanted && !spent).then(|| policy.delay.max(floor).saturating_sub(now.since(ended)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn policy(condition: RestartCondition, max_attempts: u64, window: Duration) -> RestartPolicy {
        RestartPolicy { condition, delay: 5 * SECOND, max_attempts, window }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    #[test]
    fn the_condition_decides_which_ends_count() {
        let cases = [
            (RestartCondition::Any, TaskState::Complete, true),
            (RestartCondition::Any, TaskState::Failed, true),
            (RestartCondition::OnFailure, TaskState::Complete, false),
            (RestartCondition::OnFailure, TaskState::Failed, true),
            (RestartCondition::None, TaskState::Failed, false),
        ];
        for (condition, state, expected) in cases {
            let policy = policy(condition, 0, Duration::ZERO);
            let next = History::default().next_start(&policy, state, at(10), SECOND, at(10));
            assert_eq!(next, expected.then_some(5 * SECOND), "{condition} {state}");
        }
    }

    #[test]
    fn the_delay_counts_from_the_end() {
        let policy = policy(RestartCondition::Any, 0, Duration::ZERO);
        let next = |now| History::default().next_start(&policy, TaskState::Failed, at(10), SECOND, at(now));
        assert_eq!(next(12), Some(3 * SECOND));
        assert_eq!(next(100), Some(Duration::ZERO));
    }

    #[test]
    fn attempts_are_counted_within_the_window() {
        let limited = policy(RestartCondition::Any, 2, 60 * SECOND);
        let mut history = History::default();
        let may = |history: &History, now| {
            history.next_start(&limited, TaskState::Failed, at(now), SECOND, at(now)).is_some()
        };
        history.record(&limited, at(10));
        assert!(may(&history, 11));
        history.record(&limited, at(20));
        assert!(!may(&history, 21));
        assert!(may(&history, 71));
        history.record(&limited, at(71));
        assert_eq!(history.starts(), [at(20), at(71)]);
        let ever = policy(RestartCondition::Any, 2, Duration::ZERO);
        assert!(history.next_start(&ever, TaskState::Failed, at(9999), SECOND, at(9999)).is_none());
    }

    #[test]
    fn a_program_that_keeps_ending_is_started_ever_less_often() {
        let mut crashes = CrashLoop::default();
        let floors: Vec<u64> = (0..8).map(|_| crashes.ended(at(1)).as_secs()).collect();
        assert_eq!(floors, [1, 2, 4, 8, 16, 32, 60, 60]);
        crashes.started(at(100));
        assert_eq!(crashes.ended(at(159)), 60 * SECOND);
        crashes.started(at(200));
        assert_eq!(crashes.ended(at(260)), SECOND, "it ran for a while");
        let eager =
            RestartPolicy { delay: Duration::ZERO, ..policy(RestartCondition::Any, 0, Duration::ZERO) };
        let next = History::default().next_start(&eager, TaskState::Failed, at(10), 8 * SECOND, at(11));
        assert_eq!(next, Some(7 * SECOND));
    }

    #[test]
    fn without_a_limit_nothing_is_remembered() {
        let mut history = History::default();
        history.record(&policy(RestartCondition::Any, 0, Duration::ZERO), at(1));
        assert_eq!(history.starts(), []);
    }
}
