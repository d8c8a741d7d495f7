//! Values of flags: each type owns its grammar, its error and its text form.

pub(crate) mod boolean;
pub(crate) mod bytes;
pub(crate) mod choice;
pub(crate) mod count;
pub(crate) mod cpus;
pub(crate) mod csv;
pub(crate) mod device;
pub(crate) mod duration;
pub(crate) mod env;
pub(crate) mod file;
pub(crate) mod filter;
pub(crate) mod generic;
pub(crate) mod gpus;
pub(crate) mod host;
pub(crate) mod label;
pub(crate) mod mode;
pub(crate) mod mount;
pub(crate) mod port;
pub(crate) mod security;
pub(crate) mod ulimit;
pub(crate) mod words;

use std::fmt::Display;

/// Why the value of a flag is not accepted: the same form as the managers' refusals.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: invalid value {value:?}: {problem}")]
pub(crate) struct FlagError {
    /// The flag without its dashes.
    pub field: String,
    /// What was given.
    pub value: String,
    /// What is wrong with it and what would be right.
    pub problem: String,
}

impl FlagError {
    /// The refusal of one value.
    pub(crate) fn new(field: &str, value: impl Display, problem: impl Display) -> Self {
        Self { field: field.to_owned(), value: value.to_string(), problem: problem.to_string() }
    }
}
