//! Where managers are that have moved, before Raft can be told.
//!
//! The addresses of managers are part of Raft's membership, and changing that takes a leader. When so many managers have moved that
//! none can be elected, they find each other by what they tell each other here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::watch;

use crate::raft::RaftStatus;

/// What other managers told of their addresses; in memory only.
#[derive(Debug, Clone, Default)]
pub struct AddressBook(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    moved: Mutex<BTreeMap<u64, Moved>>,
    raft: OnceLock<watch::Receiver<RaftStatus>>,
}

/// A word on one manager: it holds until Raft knows something newer than it did then.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Moved {
    from: String,
    to: String,
}

impl AddressBook {
    /// Asks Raft from now on what it knows.
    pub fn follow(&self, raft: watch::Receiver<RaftStatus>) {
        // Whoever is first is right: there is one Raft.
        let _ = self.0.raft.set(raft);
    }

    /// The manager with this Raft id, which Raft knows at `from`, is at `to`.
    pub fn note(&self, raft_id: u64, from: &str, to: &str) {
        let mut book = self.0.moved.lock().unwrap_or_else(PoisonError::into_inner);
        if from == to {
            book.remove(&raft_id);
        } else {
            book.insert(raft_id, Moved { from: from.to_owned(), to: to.to_owned() });
        }
    }

    /// Where to find the manager with this Raft id, which Raft knows at `address`.
    #[must_use]
    pub fn present(&self, raft_id: u64, address: &str) -> String {
        let book = self.0.moved.lock().unwrap_or_else(PoisonError::into_inner);
        let moved = book.get(&raft_id).filter(|moved| moved.from == address);
        moved.map_or(address, |moved| moved.to.as_str()).to_owned()
    }

    /// The same, for one that Raft knew at `address` once: replication that goes on keeps the address that it began with.
    #[must_use]
    pub fn at_last(&self, raft_id: u64, address: &str) -> String {
        let status = self.0.raft.get().map(|raft| raft.borrow().clone());
        let known = status.as_ref().and_then(|status| status.members.address(raft_id));
        self.present(raft_id, known.unwrap_or(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_holds_until_raft_knows_better() {
        let book = AddressBook::default();
        assert_eq!(book.present(1, "a"), "a");
        book.note(1, "a", "b");
        assert_eq!((book.present(1, "a"), book.present(2, "a")), ("b".to_owned(), "a".to_owned()));
        // Raft has heard of a later move.
        assert_eq!(book.present(1, "c"), "c");
        book.note(1, "a", "d");
        assert_eq!(book.present(1, "a"), "d");
        book.note(1, "a", "a");
        assert_eq!(book.present(1, "a"), "a");
    }

    #[test]
    fn what_raft_knows_now_counts() {
        let book = AddressBook::default();
        assert_eq!(book.at_last(1, "a"), "a");
        let mut status = RaftStatus::default();
        status.members.voters.insert(1, "b".to_owned());
        let (raft, told) = watch::channel(status);
        book.follow(told);
        assert_eq!((book.at_last(1, "a"), book.at_last(2, "a")), ("b".to_owned(), "a".to_owned()));
        book.note(1, "b", "c");
        assert_eq!(book.at_last(1, "a"), "c");
        raft.send_modify(|status| drop(status.members.voters.insert(1, "d".to_owned())));
        assert_eq!(book.at_last(1, "a"), "d");
    }
}
