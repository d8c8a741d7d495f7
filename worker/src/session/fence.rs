//! Whether a leader may speak: not one of an older term than this node has been with.
//!
//! Pure. A leader that was cut off may not know yet that another one was elected. What it says is of yesterday: its complete set
//! lacks what the newer one assigned, and would have that stopped. Such a leader ends its sessions by itself within seconds; one
//! that is still there after a minute leads a cluster that was restored from an older copy, and is believed.

use std::time::Duration;

use tokio::time::Instant;

/// How long leaders of older terms are refused at most.
const FOR: Duration = Duration::from_secs(60);

/// The highest term that this node has been with.
#[derive(Debug)]
pub(super) struct Fence {
    term: u64,
    refused_since: Option<Instant>,
}

/// What a leader's term means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It may speak; nothing is new.
    Known,
    /// It may speak, and its term is to be remembered.
    New,
    /// It may not speak: this node has been with a leader of this term.
    Older(u64),
}

impl Fence {
    /// What an earlier daemon remembered; zero if nothing.
    pub(super) const fn new(term: u64) -> Self {
        Self { term, refused_since: None }
    }

    /// A leader of this term welcomes this node; zero is one that does not say.
    pub(super) fn judge(&mut self, term: u64, now: Instant) -> Judgement {
        if term == 0 {
            return Judgement::Known;
        }
        if term < self.term && now - *self.refused_since.get_or_insert(now) < FOR {
            return Judgement::Older(self.term);
        }
        self.refused_since = None;
        if term == self.term {
            return Judgement::Known;
        }
        self.term = term;
        Judgement::New
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_leader_of_an_older_term_does_not_speak() {
        let now = Instant::now();
        let mut fence = Fence::new(0);
        assert_eq!(fence.judge(3, now), Judgement::New);
        assert_eq!(fence.judge(3, now), Judgement::Known);
        assert_eq!(fence.judge(2, now), Judgement::Older(3));
        assert_eq!(fence.judge(5, now), Judgement::New);
        assert_eq!(fence.judge(3, now), Judgement::Older(5));
        assert_eq!(fence.judge(0, now), Judgement::Known, "one that does not say");
    }

    #[test]
    fn an_earlier_daemon_is_remembered() {
        assert_eq!(Fence::new(7).judge(6, Instant::now()), Judgement::Older(7));
        assert_eq!(Fence::new(7).judge(7, Instant::now()), Judgement::Known);
    }

    #[test]
    fn what_lasts_is_a_cluster_of_an_older_copy() {
        let now = Instant::now();
        let mut fence = Fence::new(7);
        assert_eq!(fence.judge(2, now), Judgement::Older(7));
        assert_eq!(fence.judge(2, now + 59 * SECOND), Judgement::Older(7));
        // Whoever hears the newer one in between begins to count anew.
        assert_eq!(fence.judge(7, now + 59 * SECOND), Judgement::Known);
        assert_eq!(fence.judge(2, now + 60 * SECOND), Judgement::Older(7));
        assert_eq!(fence.judge(2, now + 120 * SECOND), Judgement::New);
        assert_eq!(fence.judge(2, now + 121 * SECOND), Judgement::Known);
    }
}
