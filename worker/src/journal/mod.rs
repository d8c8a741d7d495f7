//! What the agent remembers over its own restarts: its tasks, how they fared, where the managers are.
//!
//! None of it is the truth. The managers know what is wanted and the runtime what is there, so a journal that is
//! damaged is moved aside and begun anew, whatever the damage does (sled may also panic on it). It serves a node that
//! comes up while no manager can be reached, and keeps ends from being forgotten before they are acknowledged.

mod record;
mod store;

pub(crate) use record::{Contents, KeptLog, StoredTask, TaskRecord};
pub(crate) use store::{Journal, JournalError};

#[cfg(test)]
mod tests;
