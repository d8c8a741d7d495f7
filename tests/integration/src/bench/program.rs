//! Programs beside the product that measure a part of it and print one figure a line.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::report::Report;
use crate::process;

/// The program that a variable names. Only where it is named: one that lies in the target folder by chance may be of
/// another profile.
pub(super) fn named(variable: &str, group: &str, report: &mut Report) -> Option<OsString> {
    let program = std::env::var_os(variable);
    if program.is_none() {
        report.note(&format!("Coracle: {group}: skipped, {variable} names no program that measures it"));
    }
    program
}

/// What it prints for these arguments.
pub(super) fn said(program: &OsString, arguments: &[u64]) -> Result<String> {
    process::output(Command::new(program).args(arguments.iter().map(u64::to_string)))
}

/// The figure behind what a line begins with.
pub(super) fn figure(said: &str, beginning: &str) -> Result<f64> {
    let rest = said.lines().find_map(|line| line.strip_prefix(beginning));
    let figure = rest.and_then(|rest| rest.split_whitespace().next()).and_then(|text| text.parse().ok());
    figure.with_context(|| format!("no figure for {beginning:?} in what the program says:\n{said}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_by_what_stands_before_them() {
        let said = "1000 nodes, 10000 tasks\nplanned     250000 tasks/s (40ms)\na task ends   27.5 us\n";
        assert!((figure(said, "planned").unwrap() - 250_000.0).abs() < 0.5);
        assert!((figure(said, "a task ends").unwrap() - 27.5).abs() < 0.01);
        assert!(figure(said, "placed").is_err());
    }
}
