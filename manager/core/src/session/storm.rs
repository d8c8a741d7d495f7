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
/// Fewer missed nodes than this are no storm.
pub(super) const LEAST: usize = 3;

/// How many nodes are missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Missed {
    /// Nodes that the store calls ready.
    pub(super) nodes: usize,
    /// Those that will be over soon unless they come back.
    pub(super) missed: usize,
    /// Those that are over already.
    pub(super) overdue: usize,
    /// Most of the managers hold sessions that are in step, and a worker is heard: this leader is not cut off.
    pub(super) grounded: bool,
}

impl Missed {
    fn is_storm(self) -> bool {
        self.missed >= LEAST && self.missed * 2 > self.nodes
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
    pub(super) fn holds(&mut self, now: Timestamp, missed: Missed) -> bool {
        *self = match *self {
            _ if !missed.is_storm() => Self::Calm,
            // It begins when the first would be declared down.
            Self::Calm if missed.overdue > 0 => {
                Self::Holding { since: now, grounded: missed.grounded.then_some(now) }
            }
            Self::Holding { since, grounded } => {
                let grounded = missed.grounded.then(|| grounded.unwrap_or(now));
                if until(since, grounded) <= now { Self::Spent } else { Self::Holding { since, grounded } }
            }
            other => other,
        };
        matches!(self, Self::Holding { .. })
    }

    pub(super) fn held_until(&self) -> Option<Timestamp> {
        match self {
            Self::Holding { since, grounded } => Some(until(*since, *grounded)),
            Self::Calm | Self::Spent => None,
        }
    }

    pub(super) fn is_grounded(&self) -> bool {
        matches!(self, Self::Holding { grounded: Some(_), .. })
    }
}

fn until(since: Timestamp, grounded: Option<Timestamp>) -> Timestamp {
    let longest = since.after(LONGEST_HOLD);
    grounded.map_or(longest, |grounded| grounded.after(SHORT_HOLD).min(longest))
}
