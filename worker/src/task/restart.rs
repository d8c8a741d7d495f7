//! Whether a task whose end cannot be reported is started again on this node.
//!
//! Pure. The managers decide as long as one can be reached; this stands in for them while none can, by the same
//! policy, counting only the starts made here.

use std::time::Duration;

use coracle_model::restart::{RestartCondition, RestartPolicy};
use coracle_model::task::Exit;
use coracle_model::time::Timestamp;

/// Starts remembered at most, whatever the policy asks for.
const REMEMBERED: usize = 1000;

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

    /// How long after `now` to start a task again that ended so at `ended`; none if the policy forbids it.
    pub(crate) fn next_start(
        &self,
        policy: &RestartPolicy,
        exit: Exit,
        ended: Timestamp,
        now: Timestamp,
    ) -> Option<Duration> {
        let wanted = match policy.condition {
            RestartCondition::None => false,
            RestartCondition::OnFailure => exit != Exit::Code(0),
            RestartCondition::Any => true,
        };
        let spent = policy.max_attempts > 0 && self.attempts(policy, now) >= policy.max_attempts;
        (wanted && !spent).then(|| policy.delay.saturating_sub(now.since(ended)))
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
            (RestartCondition::Any, Exit::Code(0), true),
            (RestartCondition::Any, Exit::OutOfMemory, true),
            (RestartCondition::OnFailure, Exit::Code(0), false),
            (RestartCondition::OnFailure, Exit::Code(1), true),
            (RestartCondition::OnFailure, Exit::Unknown, true),
            (RestartCondition::None, Exit::Signal(9), false),
        ];
        for (condition, exit, expected) in cases {
            let policy = policy(condition, 0, Duration::ZERO);
            let next = History::default().next_start(&policy, exit, at(10), at(10));
            assert_eq!(next, expected.then_some(5 * SECOND), "{condition} {exit}");
        }
    }

    #[test]
    fn the_delay_counts_from_the_end() {
        let policy = policy(RestartCondition::Any, 0, Duration::ZERO);
        let next = |now| History::default().next_start(&policy, Exit::Code(1), at(10), at(now));
        assert_eq!(next(12), Some(3 * SECOND));
        assert_eq!(next(100), Some(Duration::ZERO));
    }

    #[test]
    fn attempts_are_counted_within_the_window() {
        let limited = policy(RestartCondition::Any, 2, 60 * SECOND);
        let mut history = History::default();
        let may =
            |history: &History, now| history.next_start(&limited, Exit::Code(1), at(now), at(now)).is_some();
        history.record(&limited, at(10));
        assert!(may(&history, 11));
        history.record(&limited, at(20));
        assert!(!may(&history, 21));
        assert!(may(&history, 71));
        history.record(&limited, at(71));
        assert_eq!(history.starts(), [at(20), at(71)]);
        let ever = policy(RestartCondition::Any, 2, Duration::ZERO);
        assert!(history.next_start(&ever, Exit::Code(1), at(9999), at(9999)).is_none());
    }

    #[test]
    fn without_a_limit_nothing_is_remembered() {
        let mut history = History::default();
        history.record(&policy(RestartCondition::Any, 0, Duration::ZERO), at(1));
        assert_eq!(history.starts(), []);
    }
}
