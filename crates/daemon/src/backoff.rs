//! How long to wait before trying again: longer each time, and not in step with others.

use std::time::Duration;

/// The bounds of a back-off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackoffPolicy {
    /// The longest first delay.
    pub first: Duration,
    /// The longest delay ever.
    pub max: Duration,
}

impl Default for BackoffPolicy {
    /// From 100 ms to 30 s.
    fn default() -> Self {
        Self { first: Duration::from_millis(100), max: Duration::from_secs(30) }
    }
}

/// A sequence of delays: each is drawn from the upper half of an interval that doubles until it is the
/// policy's longest. Pure: the caller brings the randomness and does the waiting.
#[derive(Debug, Clone)]
pub struct Backoff {
    policy: BackoffPolicy,
    failures: u32,
}

impl Backoff {
    /// Begins a sequence.
    pub fn new(policy: BackoffPolicy) -> Self {
        Self { policy, failures: 0 }
    }

    /// The delay after one more failure; `random` is uniform over all `u64`.
    pub fn next_delay(&mut self, random: u64) -> Duration {
        // 2^31 times the first delay is beyond every longest delay that makes sense.
        let factor = 1_u32 << self.failures.min(31);
        self.failures = self.failures.saturating_add(1);
        let longest = self.policy.first.saturating_mul(factor).min(self.policy.max);
        let half = longest / 2;
        // The product's upper 64 bits are uniform below `span` and so fit again.
        let span = longest.saturating_sub(half).as_nanos();
        let jitter = (span.saturating_mul(u128::from(random)) >> 64).min(u128::from(u64::MAX));
        half.saturating_add(Duration::from_nanos(u64::try_from(jitter).unwrap_or(u64::MAX)))
    }

    /// How many failures in a row there were.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Begins anew, because something worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// The policy.
    pub fn policy(&self) -> BackoffPolicy {
        self.policy
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POLICY: BackoffPolicy =
        BackoffPolicy { first: Duration::from_millis(100), max: Duration::from_secs(5) };

    #[test]
    fn doubles_up_to_the_longest_and_begins_anew() {
        let mut backoff = Backoff::new(POLICY);
        let delays: Vec<u128> = (0..8).map(|_| backoff.next_delay(0).as_millis()).collect();
        assert_eq!(delays, [50, 100, 200, 400, 800, 1600, 2500, 2500]);
        assert_eq!(backoff.failures(), 8);
        backoff.reset();
        assert_eq!(backoff.next_delay(0).as_millis(), 50);
    }

    proptest! {
        #[test]
        fn stays_within_half_and_whole(
            first in 0_u64..100_000, max in 0_u64..1_000_000, failures in 0_usize..80, random: u64,
        ) {
            let policy = BackoffPolicy { first: Duration::from_millis(first), max: Duration::from_millis(max) };
            let mut low = Backoff::new(policy);
            let mut high = low.clone();
            for _ in 0..failures {
                low.next_delay(0);
                high.next_delay(u64::MAX);
            }
            let delay = high.clone().next_delay(random);
            prop_assert!(delay >= low.next_delay(0) && delay <= high.next_delay(u64::MAX));
            prop_assert!(delay <= policy.max);
        }
    }
}
