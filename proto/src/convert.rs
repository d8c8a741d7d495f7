//! Messages to model types and back, one file per resource.
//!
//! Encoding never fails. Decoding is structural: it refuses what cannot be expressed in the model (a missing part,
//! an unknown enumerator, a text that is no id), and leaves ranges and rules to `coracle_model::validate`.
//!
//! Absent parts take the model's defaults where the model has one (limits, restart policy, placement); parts
//! that say what an object *is* (its id, its mode, the kind of a mount) must be there. An older program that meets a
//! newer kind of these refuses it instead of taking it for something else.

pub mod cluster;
pub mod container;
pub mod file;
pub mod health;
pub mod image;
pub mod job;
pub mod mount;
pub mod node;
pub mod placement;
mod rebalance;
pub mod resources;
pub mod rollout;
pub mod security;
pub mod service;
pub mod task;
pub mod volume;

#[cfg(test)]
mod tests;

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use coracle_model::time::Timestamp;

/// Why a message is not a value of the model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A part that has no default is absent.
    #[error("{field}: missing: it must be given")]
    Missing {
        /// The part, in the command line's words where it has one.
        field: &'static str,
    },
    /// A part has a value that the model does not know.
    #[error("{field}: invalid value {value:?}: {problem}")]
    Invalid {
        /// The part, in the command line's words where it has one.
        field: &'static str,
        /// What was given.
        value: String,
        /// What is wrong with it and what would be right.
        problem: String,
    },
}

impl DecodeError {
    /// The refusal of one value.
    #[must_use]
    pub fn invalid(field: &'static str, value: impl Display, problem: impl Display) -> Self {
        Self::Invalid { field, value: shortened(&value.to_string()), problem: problem.to_string() }
    }

    /// The part that is at fault.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        match self {
            Self::Missing { field } | Self::Invalid { field, .. } => field,
        }
    }
}

/// Keeps a hostile value from filling a message.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 96;
    if text.chars().count() <= SHOWN {
        text.to_owned()
    } else {
        text.chars().take(SHOWN).chain("…".chars()).collect()
    }
}

/// Reads a text of the model: an id, a digest, a name, a constraint.
///
/// # Errors
/// Names `field`, the text and what is wrong with it.
pub fn parse<T>(field: &'static str, text: &str) -> Result<T, DecodeError>
where
    T: FromStr,
    T::Err: Display,
{
    text.parse().map_err(|error: T::Err| DecodeError::invalid(field, text, error))
}

/// The part, or a refusal that names it.
///
/// # Errors
/// When it is absent.
pub fn required<T>(field: &'static str, part: Option<T>) -> Result<T, DecodeError> {
    part.ok_or(DecodeError::Missing { field })
}

/// The enumerator behind a number on the wire.
fn enumerator<E: TryFrom<i32>>(field: &'static str, number: i32) -> Result<E, DecodeError> {
    E::try_from(number).map_err(|_| {
        DecodeError::invalid(field, number, "unknown to this version; is the sender a newer one?")
    })
}

/// A duration as it travels: nanoseconds; what is too long becomes the longest.
#[must_use]
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

const fn duration(nanos: u64) -> Duration {
    Duration::from_nanos(nanos)
}

const fn timestamp(nanos: u64) -> Timestamp {
    Timestamp::from_nanos(nanos)
}
