//! What the control loops did, for `coracle system loops`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use coracle_model::time::Timestamp;

/// What one loop did since this manager began to lead.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoopStatus {
    /// Times that it planned.
    pub runs: u64,
    /// Changes that it proposed and that were applied.
    pub changes: u64,
    /// Plans that were refused because the state had moved on.
    pub refused: u64,
    /// When it last planned.
    pub last_run: Timestamp,
}

/// The table of all loops; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct LoopTable(Arc<Mutex<BTreeMap<&'static str, LoopStatus>>>);

impl LoopTable {
    /// Changes one row.
    pub fn update(&self, name: &'static str, change: impl FnOnce(&mut LoopStatus)) {
        change(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default());
    }

    /// All rows.
    #[must_use]
    pub fn rows(&self) -> Vec<(&'static str, LoopStatus)> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .map(|(name, status)| (*name, *status))
            .collect()
    }
}
