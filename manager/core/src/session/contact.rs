//! The contact with one node.

use std::time::Duration;

use coracle_model::id::SessionId;
use coracle_model::time::Timestamp;

/// The contact with one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Contact {
    /// Nobody expects it; it is down, or over and about to be declared so.
    Absent,
    /// This manager leads since recently and has not heard of it.
    Expected { deadline: Timestamp, silence: Duration },
    /// It holds a session.
    Open { session: SessionId, heard: Timestamp, synced: bool },
    /// Its session ended.
    Closed { deadline: Timestamp, grace: Duration },
    /// It held a session and was silent for too long.
    Silent { since: Timestamp, silence: Duration },
    /// It vanished with most of the others, and enough of them are back: it may be about to follow.
    Late { deadline: Timestamp, after: Duration },
}

impl Contact {
    /// Twice the usual silence: agents must first notice that there is another leader.
    pub(super) fn expected(now: Timestamp, silence: Duration) -> Self {
        let silence = silence * 2;
        Self::Expected { deadline: now.after(silence), silence }
    }

    /// As long as a new leader waits for somebody: whoever finds the way back at the same moment is not there at the same moment.
    pub(super) fn late(now: Timestamp, silence: Duration) -> Self {
        let after = silence * 2;
        Self::Late { deadline: now.after(after), after }
    }

    /// When the node is over; none if it is already.
    pub(super) fn deadline(&self, silence: Duration) -> Option<Timestamp> {
        match self {
            Self::Absent => None,
            Self::Expected { deadline, .. } | Self::Closed { deadline, .. } | Self::Late { deadline, .. } => {
                Some(*deadline)
            }
            Self::Open { heard, .. } => Some(heard.after(silence)),
            Self::Silent { since, .. } => Some(*since),
        }
    }

    /// Whether a node that holds a session has not been heard for half of the silence that ends it: since one heartbeat and a half.
    ///
    /// Heartbeats of different nodes are spread over a period. When the first of those that a cut link took is over, each of the others
    /// has been silent for at least two periods, and a node that is well for at most one.
    pub(super) fn is_late(&self, now: Timestamp, silence: Duration) -> bool {
        matches!(self, Self::Open { heard, .. } if heard.after(silence / 2) <= now)
    }

    /// Takes `late`, during which nobody could be heard, off the time that has passed: nobody gets more than if it began at `now`.
    pub(super) fn excuse(&mut self, late: Duration, now: Timestamp) {
        let later = |time: Timestamp, whole: Duration| time.after(late).min(now.after(whole));
        match self {
            Self::Open { heard, .. } => *heard = later(*heard, Duration::ZERO),
            Self::Expected { deadline, silence: whole }
            | Self::Closed { deadline, grace: whole }
            | Self::Late { deadline, after: whole } => *deadline = later(*deadline, *whole),
            Self::Absent | Self::Silent { .. } => {}
        }
    }

    /// Gives up a session that was silent for too long.
    pub(super) fn age(&mut self, now: Timestamp, silence: Duration) {
        if let Self::Open { heard, .. } = self {
            let over = heard.after(silence);
            if over <= now {
                *self = Self::Silent { since: over, silence };
            }
        }
    }

    /// Whether the node is over, seen after [`Self::age`].
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        match self {
            Self::Absent | Self::Silent { .. } => true,
            Self::Expected { deadline, .. } | Self::Closed { deadline, .. } | Self::Late { deadline, .. } => {
                *deadline <= now
            }
            Self::Open { .. } => false,
        }
    }

    /// Why a node that is over is down, for the operator.
    pub(super) fn reason(&self) -> String {
        match self {
            Self::Closed { grace, .. } => {
                format!("its connection closed and was not opened again within {grace:?}")
            }
            Self::Expected { silence, .. } => format!("it did not report within {silence:?} to a new leader"),
            Self::Silent { silence, .. } => format!("no heartbeat for {silence:?}"),
            Self::Late { after, .. } => format!("it did not come back within {after:?} after the others"),
            Self::Absent | Self::Open { .. } => "it is not connected".to_owned(),
        }
    }
}
