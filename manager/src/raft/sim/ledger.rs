//! What was applied anywhere, ever: by this all managers are measured.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::life::lock;

/// Everything that some manager applied.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    applied: Mutex<BTreeMap<u64, Applied>>,
    complaints: Mutex<Vec<String>>,
}

/// An entry that some manager applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Applied {
    term: u64,
    /// Over all commands up to this one.
    hash: u64,
    /// Who applied it first.
    by: u64,
}

impl Ledger {
    /// A manager applied a command; `hash` is over all commands that it applied up to this one.
    pub(super) fn applied(&self, raft_id: u64, index: u64, term: u64, hash: u64) {
        let new = Applied { term, hash, by: raft_id };
        let before = *lock(&self.applied).entry(index).or_insert(new);
        if (before.term, before.hash) != (term, hash) {
            self.complain(format!(
                "manager {raft_id} applied another command at {index} (term {term}) than manager {} (term {})",
                before.by, before.term
            ));
        }
    }

    /// Something is wrong.
    pub(super) fn complain(&self, what: String) {
        lock(&self.complaints).push(what);
    }

    /// What is wrong, if anything.
    pub(super) fn complaint(&self) -> Option<String> {
        lock(&self.complaints).first().cloned()
    }
}
