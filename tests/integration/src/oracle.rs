//! What must be true at the end of every test, whatever was done to the cluster.

use anyhow::{Result, bail};

use crate::lab::Lab;

/// Checks all of it.
///
/// # Errors
/// The first thing that is not true.
pub fn check_all(lab: &Lab) -> Result<()> {
    no_crowded_slot(lab)?;
    no_unexpected_errors(lab)
}

/// No slot has two tasks that run on nodes that are not down.
fn no_crowded_slot(lab: &Lab) -> Result<()> {
    // Tests may end with a cluster that cannot answer; they have then checked what they could.
    let Ok(view) = lab.view() else { return Ok(()) };
    let crowded = view.crowded_slots();
    if !crowded.is_empty() {
        bail!("more than one task runs in {crowded:?}:\n{view}");
    }
    Ok(())
}

/// No daemon panicked, and none said that somebody must act, unless the test expects it.
fn no_unexpected_errors(lab: &Lab) -> Result<()> {
    for name in lab.names() {
        let log = lab.get(name)?.log();
        let bad = log.lines().find(|line| {
            let allowed = lab.allowed_errors().iter().any(|text| line.contains(text));
            line.contains("panicked at") || (is_error(line) && !allowed)
        });
        if let Some(line) = bad {
            bail!("the log of {name} has: {line}");
        }
    }
    Ok(())
}

/// Whether the line's level is ERROR: the word stands among the first, before the message.
fn is_error(line: &str) -> bool {
    plain(line).split_whitespace().take(3).any(|word| word == "ERROR")
}

/// The line without colours (ECMA-48 sequences that end in `m`).
fn plain(line: &str) -> String {
    let mut parts = line.split('\u{1b}');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').map_or("", |(_, rest)| rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_is_found_also_when_it_is_coloured() {
        assert!(is_error("2025-01-01T00:00:00Z ERROR coracle: no space left"));
        assert!(is_error("2025-01-01T00:00:00Z \u{1b}[31mERROR\u{1b}[0m coracle: no space left"));
        assert!(!is_error("2025-01-01T00:00:00Z  INFO coracle: a task said ERROR"));
    }
}
