//! Whether enough managers said that this node was removed, so that it may be acted on: that stops everything here.
//!
//! Pure. One manager alone may be wrong, e.g. one that was restored from an old copy; and a word that is true is
//! still true some seconds later. The leader's word counts as that of a majority, which it has to be heard by.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

/// How long managers must keep saying it.
const FOR: Duration = Duration::from_secs(5);

/// What was said since the last session.
#[derive(Debug, Default)]
pub(super) struct Removal {
    since: Option<Instant>,
    by: BTreeSet<String>,
    /// Who said it as the leader, and when first.
    leader: Option<(String, Instant)>,
    /// It was acted on.
    pub(super) believed: bool,
}

impl Removal {
    /// A manager says it; tells whether that is to be acted on now. `leads` if another manager pointed to it as the
    /// leader.
    pub(super) fn said(&mut self, by: &str, leads: bool, known: &[String], now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        if known.iter().any(|address| address == by) {
            self.by.insert(by.to_owned());
        }
        let by_leader = match &self.leader {
            Some((leader, first)) if leader == by => now - *first >= FOR,
            _ => {
                if leads {
                    self.leader = Some((by.to_owned(), now));
                }
                false
            }
        };
        // Those that are managers no more do not count.
        let count = known.iter().filter(|address| self.by.contains(*address)).count();
        let by_majority = count > known.len() / 2 && now - since >= FOR;
        let act = !self.believed && (by_leader || by_majority);
        self.believed |= act;
        act
    }

    /// A manager welcomed this node.
    pub(super) fn welcomed(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_majority_must_say_it_for_some_seconds() {
        let known = ["a", "b", "c"].map(str::to_owned);
        let begun = Instant::now();
        let mut removal = Removal::default();
        assert!(!removal.said("a", false, &known, begun));
        assert!(!removal.said("a", false, &known, begun + 9 * SECOND), "one of three");
        assert!(!removal.said("x", false, &known, begun + 9 * SECOND), "a manager that is not known");
        assert!(removal.said("b", false, &known, begun + 10 * SECOND));
        assert!(!removal.said("c", false, &known, begun + 11 * SECOND), "it is acted on once");
        removal.welcomed();
        assert!(!removal.said("a", false, &known, begun + 20 * SECOND));
        assert!(!removal.said("b", false, &known, begun + 24 * SECOND), "not long enough");
        assert!(removal.said("a", false, &known, begun + 25 * SECOND));
    }

    #[test]
    fn the_leader_says_it_twice() {
        let known = ["a", "b", "c"].map(str::to_owned);
        let begun = Instant::now();
        let mut removal = Removal::default();
        assert!(!removal.said("a", true, &known, begun));
        assert!(!removal.said("a", true, &known, begun + 4 * SECOND));
        assert!(removal.said("a", true, &known, begun + 5 * SECOND));
    }
}
