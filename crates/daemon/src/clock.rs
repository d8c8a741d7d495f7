//! Time as a dependency: the system's, or one that a test moves.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where a component learns the time.
pub trait Clock: Debug + Send + Sync + 'static {
    /// The time of day in nanoseconds since 1970 (UTC). It may jump either way when somebody sets it.
    fn now(&self) -> u64;

    /// Time since a fixed moment in the past. It never goes back; only differences mean something.
    fn monotonic(&self) -> Duration;
}

/// The system's clocks.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// Makes a clock whose monotonic time begins now.
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> u64 {
        // A clock before 1970 is unset: treat it as 1970. The nanoseconds fit until the year 2554.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        nanoseconds(since)
    }

    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug, Default)]
pub struct ManualClock {
    wall: AtomicU64,
    monotonic: AtomicU64,
}

impl ManualClock {
    /// A clock that shows `now`, in nanoseconds since 1970, and no monotonic time yet.
    pub fn new(now: u64) -> Self {
        Self { wall: AtomicU64::new(now), monotonic: AtomicU64::new(0) }
    }

    /// Lets time pass on both clocks.
    pub fn advance(&self, duration: Duration) {
        self.wall.fetch_add(nanoseconds(duration), Ordering::SeqCst);
        self.monotonic.fetch_add(nanoseconds(duration), Ordering::SeqCst);
    }

    /// Sets the time of day, in nanoseconds since 1970, as an administrator might; no time passes.
    pub fn set_now(&self, now: u64) {
        self.wall.store(now, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> u64 {
        self.wall.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.monotonic.load(Ordering::SeqCst))
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = ManualClock::new(1_000);
        clock.advance(Duration::from_nanos(5));
        assert_eq!((clock.now(), clock.monotonic()), (1_005, Duration::from_nanos(5)));
        clock.set_now(10);
        assert_eq!((clock.now(), clock.monotonic()), (10, Duration::from_nanos(5)));
    }

    #[test]
    fn the_systems_clock_shows_this_century_and_never_goes_back() {
        let clock = SystemClock::new();
        let (first, second) = (clock.monotonic(), clock.monotonic());
        assert!(second >= first);
        assert!(clock.now() > 1_600_000_000 * 1_000_000_000);
    }
}
