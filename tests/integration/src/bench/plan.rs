//! What planning one change costs in clusters of different sizes, and the memory that they take: runs the core's own
//! measurement and reads what it prints.

use anyhow::Result;

use super::program;
use super::report::Report;

/// Services, tasks of each and nodes; whether the time has a target, and the memory that is wanted. The cost of a
/// change should follow the change: it is shown beside that in a cluster of a tenth of the size, and of ten times.
const SIZES: [(u64, u64, u64, bool, Option<f64>); 3] = [
    (1_000, 10, 100, false, None),
    (10_000, 10, 1_000, true, None),
    (10_000, 100, 10_000, false, Some(1536.0)),
];
/// What is measured, as the program names it.
const CHANGES: [&str; 4] = [
    "a service gets one replica more",
    "a task ends",
    "a node goes down that had 100 tasks",
    "a node comes back",
];
/// Milliseconds that planning one change may take.
const TARGET: f64 = 1.0;
/// Names the program that measures.
const PROGRAM: &str = "CORACLE_PLAN_BENCH";

pub(super) fn measure(report: &mut Report) -> Result<()> {
    let Some(program) = program::named(PROGRAM, "plan", report) else { return Ok(()) };
    for (services, replicas, nodes, is_wanted, memory) in SIZES {
        let said = program::said(&program, &[services, replicas, nodes])?;
        let size = format!("{services} services, {} tasks, {nodes} nodes", services * replicas);
        for change in CHANGES {
            let milliseconds = program::figure(&said, change)? / 1e3;
            report.add(&format!("plan, {size}: {change}"), "ms", is_wanted.then_some(TARGET), milliseconds);
        }
        report.add(&format!("memory of {size}"), "MiB", memory, program::figure(&said, "memory")?);
    }
    Ok(())
}
