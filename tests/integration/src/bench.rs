//! Measurements of a cluster on this machine, beside the figures that it should reach.
//!
//! All nodes share the machine: figures are comparable only with others that were taken in the same way on the
//! same machine. Times are wall seconds from just before the command or the fault.
#![expect(clippy::print_stdout, reason = "what it says is what it is for")]

mod failures;
mod load;
mod memory;
mod report;
mod scale;

use anyhow::{Result, bail};

use crate::bench::report::Report;
use crate::lab::{self, Lab, Plan};
use crate::name::{M1, Name};
use crate::{harness, process};

/// What to measure.
#[derive(Debug, clap::Parser)]
pub struct Options {
    /// Repetitions of each measurement.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub repetitions: u32,
    /// Only groups whose name contains this: memory, scale, failures, load.
    #[arg(long)]
    pub only: Option<String>,
}

/// A group of measurements that belong together.
type Group = fn(&mut Lab, u32, &mut Report) -> Result<()>;

/// In this order: memory first, while the daemons are fresh.
const GROUPS: [(&str, Group); 4] = [
    ("memory", memory::measure),
    ("scale", scale::measure),
    ("failures", failures::measure),
    ("load", load::measure),
];

/// Measures, prints a table, and writes `bench.json` into the target folder.
///
/// # Errors
/// When the cluster does not do what is measured.
pub fn run(options: &Options) -> Result<()> {
    if let Some(reason) = harness::missing() {
        bail!("the measurement {reason}");
    }
    let folder = harness::target().join("bench");
    let mut lab = Lab::new(Plan::bound(&folder, &harness::built("CORACLE_BIN", "coracle")?))?;
    lab::catch_interrupt(lab.runtime())?;
    let mut report = Report::default();
    let result = measure(&mut lab, options, &mut report);
    if result.is_err() {
        lab.keep_artifacts();
    }
    let ended = lab.end();
    // Also after a failure: what was measured by then is worth seeing.
    println!("\n{report}");
    let path = harness::target().join("bench.json");
    report.write(&path)?;
    println!("written to {}", path.display());
    result.and(ended)
}

fn measure(lab: &mut Lab, options: &Options, report: &mut Report) -> Result<()> {
    println!("forming a cluster of three managers and two workers");
    for name in Name::all(3, 2) {
        lab.add(name)?;
    }
    lab.form()?;
    lab.load_responder(M1)?;
    // Every host fetches the image now, so that no measurement has to.
    lab.cli(M1, "service create --name warm --mode global responder:1 sleep").ok()?;
    lab.cli(M1, "service rm warm").ok()?;
    lab.eventually("the cluster is idle", |view| view.tasks.is_empty())?;
    let only = options.only.as_deref().unwrap_or_default();
    for (name, group) in GROUPS.into_iter().filter(|(name, _)| name.contains(only)) {
        println!("measuring: {name}");
        group(lab, options.repetitions, report)?;
    }
    Ok(())
}

/// Processor time that all processes of all hosts have used, in seconds.
fn processor_seconds(lab: &Lab) -> Result<f64> {
    let mut ticks = 0;
    for name in lab.names() {
        let init = lab.get(name)?.host()?.init().pid;
        ticks += process::descendants(init)
            .into_iter()
            .filter_map(process::Stat::of)
            .map(|stat| stat.cpu_ticks)
            .sum::<u64>();
    }
    // USER_HZ is 100 on every architecture that we know (proc_pid_stat(5) counts in it).
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 ticks")]
    Ok(ticks as f64 / 100.0)
}
