//! The present as the cluster counts it.
//!
//! Cluster time never goes back, and much waits for it: restart delays, watches and pauses of updates, schedules. It has to go on
//! also on a leader whose clock is behind that of a former leader, or was set back; else all of that would stand still until the
//! clock has caught up.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use coracle_model::time::Timestamp;

use super::now;

/// While it is ahead of the clock cluster time goes slower by one part in this many, so that it comes back to it.
const SLOWER: u32 = 16;

/// Where cluster time stood when it was last asked for, by the monotonic clock.
#[derive(Debug, Default)]
pub(super) struct ClusterClock(Mutex<Option<(Timestamp, Instant)>>);

impl ClusterClock {
    /// The present: this machine's clock, but never before `applied`, the cluster time of the newest entry, and never standing still.
    pub(super) fn present(&self, applied: Timestamp) -> Timestamp {
        self.at(applied, now(), Instant::now())
    }

    fn at(&self, applied: Timestamp, wall: Timestamp, monotonic: Instant) -> Timestamp {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gone_on = last.map_or(Timestamp::EPOCH, |(stood, when)| {
            let passed: Duration = monotonic.saturating_duration_since(when);
            stood.after(passed - passed / SLOWER)
        });
        let present = wall.max(applied).max(gone_on);
        *last = Some((present, monotonic));
        present
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn wall(seconds: u64) -> Timestamp {
        Timestamp::from_secs(1_000_000 + seconds)
    }

    #[test]
    fn it_is_the_clock_where_that_is_right() {
        let (clock, begin) = (ClusterClock::default(), Instant::now());
        for second in [0, 1, 2, 3600, 3601] {
            let at = begin + Duration::from_secs(second);
            assert_eq!(clock.at(wall(second).min(wall(5)), wall(second), at), wall(second));
        }
    }

    #[test]
    fn it_goes_on_where_the_clock_is_behind_a_former_leaders() {
        let (clock, begin) = (ClusterClock::default(), Instant::now());
        let former = wall(7200);
        assert_eq!(clock.at(former, wall(0), begin), former);
        // Nothing is written meanwhile.
        for second in 1..=5 {
            let passed = clock.at(former, wall(second), begin + Duration::from_secs(second)).since(former);
            assert!(passed >= Duration::from_millis(900 * second), "{passed:?} in {second} s");
            assert!(passed <= Duration::from_secs(second), "{passed:?} in {second} s");
        }
    }

    #[test]
    fn it_goes_on_when_the_clock_is_set_back_and_comes_back_to_it() {
        let (clock, mut monotonic) = (ClusterClock::default(), Instant::now());
        let mut told = clock.at(wall(0), wall(3600), monotonic);
        // Two hours are made up for in thirty-two.
        for hour in 0..40 {
            monotonic += HOUR;
            let present = clock.at(told, wall(3600 * hour), monotonic);
            assert!(present.since(told) >= HOUR * 9 / 10, "it stands still");
            told = present;
        }
        assert_eq!(told, wall(3600 * 39), "it is the clock again");
    }
}
