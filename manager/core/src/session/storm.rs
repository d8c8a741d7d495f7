//! The guard against declaring half of a cluster down at once.

use std::time::Duration;

use coracle_model::time::Timestamp;

/// How long nobody is declared down at most.
pub(super) const LONGEST_HOLD: Duration = Duration::from_secs(5 * 60);
/// Fewer missed nodes than this are no storm.
pub(super) const LEAST: usize = 3;

/// How many nodes are missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Missed {
    /// Nodes that the store calls ready.
    pub(super) nodes: usize,
    /// Those that will be over within one grace unless they come back.
    pub(super) missed: usize,
    /// Those that are over already.
    pub(super) overdue: usize,
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
    /// Not before this time, unless most come back.
    Holding { until: Timestamp },
    /// The hold is over and most are still gone: they are lost indeed.
    Spent,
}

impl Storm {
    /// Whether nobody may be declared down now.
    pub(super) fn holds(&mut self, now: Timestamp, missed: Missed) -> bool {
        *self = match *self {
            _ if !missed.is_storm() => Self::Calm,
            // It begins when the first would be declared down.
            Self::Calm if missed.overdue > 0 => Self::Holding { until: now.after(LONGEST_HOLD) },
            Self::Holding { until } if until <= now => Self::Spent,
            other => other,
        };
        matches!(self, Self::Holding { .. })
    }

    pub(super) fn held_until(&self) -> Option<Timestamp> {
        match self {
            Self::Holding { until } => Some(*until),
            Self::Calm | Self::Spent => None,
        }
    }
}
