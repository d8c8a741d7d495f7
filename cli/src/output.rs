//! What goes to the standard output: tables, JSON, templates. Conversation goes to the standard error.

pub(crate) mod format;
pub(crate) mod json;
pub(crate) mod lines;
pub(crate) mod list;
pub(crate) mod table;
pub(crate) mod template;
pub(crate) mod time;
pub(crate) mod words;

use std::io::{self, Write as _};

use serde::Serialize;

use crate::error::StdoutError;

/// Writes a text to the standard output.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write(text: &str) -> Result<(), StdoutError> {
    write_bytes(text.as_bytes())
}

/// Writes bytes to the standard output.
///
/// # Errors
/// When they cannot be written.
pub(crate) fn write_bytes(bytes: &[u8]) -> Result<(), StdoutError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(StdoutError)
}

/// Writes one line to the standard output.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn line(text: &str) -> Result<(), StdoutError> {
    write(&format!("{}\n", printable(text)))
}

/// Writes a value as indented JSON.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write_json(value: &impl Serialize) -> anyhow::Result<()> {
    Ok(write(&format!("{}\n", serde_json::to_string_pretty(value)?))?)
}

/// The text without control characters: names and messages come from other machines, and a terminal would obey them.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}
