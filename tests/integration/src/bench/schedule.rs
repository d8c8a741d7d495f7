//! The scheduler alone: runs the core's own measurement and reads what it prints.

use anyhow::Result;

use super::program;
use super::report::Report;

/// Tasks, nodes, and the tasks per second that are wanted: planning alone, and with the write to the state.
const SIZES: [(u64, u64, Option<f64>, f64); 3] = [
    (10_000, 1_000, Some(500_000.0), 150_000.0),
    (100_000, 1_000, None, 150_000.0),
    (1_000, 100_000, None, 50_000.0),
];
/// Names the program that measures.
const PROGRAM: &str = "CORACLE_SCHEDULE_BENCH";
/// Runs of each size.
const RUNS: usize = 5;

pub(super) fn measure(report: &mut Report) -> Result<()> {
    let Some(program) = program::named(PROGRAM, "schedule", report) else { return Ok(()) };
    for (tasks, nodes, planning, writing) in SIZES {
        for _ in 0..RUNS {
            let said = program::said(&program, &[tasks, nodes])?;
            let size = format!("{nodes} nodes, {tasks} tasks");
            let planned = program::figure(&said, "planned")?;
            report.add(&format!("schedule, {size}, planning alone"), "tasks/s", planning, planned);
            let placed = program::figure(&said, "placed")?;
            report.add(&format!("schedule, {size}, with the write to the state"), "tasks/s", writing, placed);
        }
    }
    Ok(())
}
