//! The guard against declaring half of a cluster down at once.
//!
//! When most nodes vanish together it is more likely that this leader is the one cut off. It is not, if most of the managers and a
//! worker still speak with it: then those that are gone are gone, and nobody is helped by waiting for long.

use std::time::Duration;

use coracle_model::time::Timestamp;

/// How long nobody is declared down at most.
pub const LONGEST_HOLD: Duration = Duration::from_secs(5 * 60);
/// The same while most managers and a worker are here.
pub const SHORT_HOLD: Duration = Duration::from_secs(30);

/// How long nobody is declared down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holds {
    /// At most.
    pub longest: Duration,
    /// While most managers and a worker are here.
    pub short: Duration,
}

impl Default for Holds {
    fn default() -> Self {
        Self { longest: LONGEST_HOLD, short: SHORT_HOLD }
    }
}

impl Holds {
    /// Others, in the usual proportion: for tests.
    #[must_use]
    pub fn with_short(short: Duration) -> Self {
        const PROPORTION: u32 = (LONGEST_HOLD.as_secs() / SHORT_HOLD.as_secs()) as u32;
        Self { longest: short.saturating_mul(PROPORTION), short }
    }

    fn until(&self, since: Timestamp, grounded: Option<Timestamp>) -> Timestamp {
        let longest = since.after(self.longest);
        grounded.map_or(longest, |grounded| grounded.after(self.short).min(longest))
    }
}

/// Fewer missed nodes than this are no storm.
pub(super) const LEAST: usize = 3;

/// How many nodes are missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Missed {
    /// Nodes that the store calls ready.
    pub(super) nodes: usize,
    /// Those that will be over within one grace unless they come back, and that are not drained.
    pub(super) missed: usize,
    /// The same with those that are drained.
    pub(super) gone: usize,
    /// Those of the missed that are over already.
    pub(super) overdue: usize,
    /// Most of the managers hold sessions that are in step, and a worker is heard: this leader is not cut off.
    pub(super) grounded: bool,
}

impl Missed {
    fn is_storm(self) -> bool {
        self.are_most(self.missed)
    }

    /// Whether what ends a storm is that nodes came back, and not that an operator knows of some that they are lost.
    pub(super) fn enough_are_back(self) -> bool {
        !self.are_most(self.gone)
    }

    fn are_most(self, count: usize) -> bool {
        count >= LEAST && count * 2 > self.nodes
    }
}

/// Whether nodes may be declared down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Storm {
    /// Yes.
    #[default]
    Calm,
    /// Not yet, unless most come back.
    Holding {
        /// When it began.
        since: Timestamp,
        /// Since when most managers and a worker have been here all the time.
        grounded: Option<Timestamp>,
    },
    /// The hold is over and most are still gone: they are lost indeed.
    Spent,
}

impl Storm {
    /// Whether nobody may be declared down now.
    pub(super) fn holds(&mut self, now: Timestamp, missed: Missed, holds: &Holds) -> bool {
        *self = match *self {
            _ if !missed.is_storm() => Self::Calm,
            // It begins when the first would be declared down.
            Self::Calm if missed.overdue > 0 => {
                Self::Holding { since: now, grounded: missed.grounded.then_some(now) }
            }
            Self::Holding { since, grounded } => {
                let grounded = missed.grounded.then(|| grounded.unwrap_or(now));
                if holds.until(since, grounded) <= now {
                    Self::Spent
                } else {
                    Self::Holding { since, grounded }
                }
            }
            other => other,
        };
        matches!(self, Self::Holding { .. })
    }

    /// Takes `late` off the time that has passed.
    pub(super) fn excuse(&mut self, late: Duration, now: Timestamp) {
        if let Self::Holding { since, grounded } = self {
            let later = |time: Timestamp| time.after(late).min(now);
            (*since, *grounded) = (later(*since), grounded.map(later));
        }
    }

    pub(super) fn held_until(&self, holds: &Holds) -> Option<Timestamp> {
        match self {
            Self::Holding { since, grounded } => Some(holds.until(*since, *grounded)),
            Self::Calm | Self::Spent => None,
        }
    }

    pub(super) fn is_grounded(&self) -> bool {
        matches!(self, Self::Holding { grounded: Some(_), .. })
    }
}
