//! Log matching: entries of the same index and term are the same, and so are all before them.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Invariant, Look};

/// Logs are read at every so many looks.
const EVERY: u64 = 20;

/// Content of an entry and the term of the one before, by index and term.
#[derive(Default)]
pub(super) struct LogsMatch {
    entries: BTreeMap<(u64, u64), (Bytes, Option<u64>)>,
}

impl Invariant for LogsMatch {
    fn check(&mut self, look: &Look<'_>) -> Result<(), String> {
        if !look.tick.is_multiple_of(EVERY) {
            return Ok(());
        }
        for sight in &look.sights {
            let log = &sight.running.log;
            let stats = log.stats();
            let entries = log
                .read(stats.first_index, stats.next_index, usize::MAX)
                .map_err(|error| format!("manager {}: {error}", sight.raft_id))?;
            let mut before = None;
            for entry in entries {
                let new = (entry.payload, before);
                let known = self.entries.entry((entry.index, entry.term)).or_insert_with(|| new.clone());
                // Before the first entry held, the term is not known.
                known.1 = known.1.or(new.1);
                if known.0 != new.0 || (new.1.is_some() && known.1 != new.1) {
                    return Err(format!(
                        "entry {} of term {} of manager {} differs from another manager's",
                        entry.index, entry.term, sight.raft_id
                    ));
                }
                before = Some(entry.term);
            }
        }
        Ok(())
    }
}
