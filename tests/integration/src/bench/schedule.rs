//! The scheduler alone: runs the core's own measurement and reads what it prints.

use std::process::Command;

use anyhow::{Context as _, Result};

use super::report::Report;
use crate::process;

/// Tasks, nodes, and the tasks per second that are wanted with the write to the state included.
const SIZES: [(u64, u64, f64); 3] =
    [(10_000, 1_000, 150_000.0), (100_000, 1_000, 150_000.0), (1_000, 100_000, 50_000.0)];
/// Names the program that measures.
const PROGRAM: &str = "CORACLE_SCHEDULE_BENCH";
/// Runs of each size.
const RUNS: usize = 3;

pub(super) fn measure(report: &mut Report) -> Result<()> {
    // Only where it is named: one that lies in the target folder by chance may be of another profile.
    let Some(program) = std::env::var_os(PROGRAM) else {
        report.note(&format!("Coracle: schedule: skipped, {PROGRAM} names no program that measures it"));
        return Ok(());
    };
    for (tasks, nodes, target) in SIZES {
        for _ in 0..RUNS {
            let said = process::output(Command::new(&program).args([tasks.to_string(), nodes.to_string()]))?;
            let size = format!("{nodes} nodes, {tasks} tasks");
            let planned = rate(&said, "planned")?;
            report.add(&format!("schedule, {size}, planning alone"), "tasks/s", None, planned);
            let placed = rate(&said, "placed")?;
            report.add(&format!("schedule, {size}, with the write to the state"), "tasks/s", target, placed);
        }
    }
    Ok(())
}

/// The figure behind a word at the beginning of a line.
fn rate(said: &str, word: &str) -> Result<f64> {
    let line = said.lines().find(|line| line.split_whitespace().next() == Some(word));
    let figure = line.and_then(|line| line.split_whitespace().nth(1)).and_then(|text| text.parse().ok());
    figure
        .with_context(|| format!("no figure for {word:?} in what the scheduler's measurement says:\n{said}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_by_their_word() {
        let said =
            "1000 nodes, 10000 tasks\nplanned     250000 tasks/s (40ms)\nplaced      125000 tasks/s (80ms)\n";
        assert!((rate(said, "placed").unwrap() - 125_000.0).abs() < 0.5);
        assert!(rate(said, "made").is_err());
    }
}
