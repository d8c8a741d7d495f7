//! Managers that applied the same entries have the same state, however they came to it.

use std::collections::BTreeMap;

use super::{Invariant, Look};

/// Hash over all commands, by the number of values and the last entry that changed something.
#[derive(Default)]
pub(super) struct StatesAgree {
    hashes: BTreeMap<u64, u64>,
}

impl Invariant for StatesAgree {
    fn check(&mut self, look: &Look<'_>) -> Result<(), String> {
        for sight in &look.sights {
            let registers = sight.running.state.registers();
            let hash = *self.hashes.entry(registers.index).or_insert(registers.hash);
            if hash != registers.hash {
                return Err(format!("the state of manager {} at {} differs", sight.raft_id, registers.index));
            }
        }
        Ok(())
    }
}
