//! `true` and `false`, and what Docker takes for them.

use super::FlagError;

/// Reads a boolean for the flag `field`.
///
/// # Errors
/// Names the flag and the value.
pub(crate) fn parse(field: &str, text: &str) -> Result<bool, FlagError> {
    match text {
        "true" | "1" | "t" | "T" | "TRUE" | "True" => Ok(true),
        "false" | "0" | "f" | "F" | "FALSE" | "False" => Ok(false),
        _ => Err(FlagError::new(field, text, "use true or false")),
    }
}
