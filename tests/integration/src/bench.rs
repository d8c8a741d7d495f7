//! Measurements of a cluster on this machine, beside the figures that it should reach and, when asked for, beside
//! what peers do on the same machine in the same run.
//!
//! All nodes share the machine: figures are comparable only with others that were taken in the same way on the
//! same machine. Times are wall seconds from just before the command or the fault. What a cluster of ours and one
//! of a peer both can do is measured by the same code ([`subject::Subject`]), with the same pauses.
#![expect(clippy::print_stdout, reason = "what it says is what it is for")]

mod coracle;
mod drain;
mod failures;
mod group;
mod interrupt;
mod load;
mod machine;
mod memory;
mod peers;
mod plan;
mod program;
mod report;
mod scale;
mod schedule;
mod subject;
mod system;
pub mod timing;
mod tree;
mod update;

use std::path::PathBuf;

use anyhow::{Result, bail};

use self::coracle::Coracle;
use self::group::Group;
use self::machine::Machine;
use self::peers::Peer;
use self::report::Report;
use self::system::System;
use crate::lab::{self, Lab, Plan};
use crate::{api, harness};

/// What to measure.
#[derive(Debug, clap::Parser)]
pub struct Options {
    /// Repetitions of each measurement.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub repetitions: u32,
    /// How often our leader is killed, for the worst case; peers' leaders as often as all else is repeated.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub leader_kills: u32,
    /// Only these groups, with commas between them.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "GROUPS")]
    only: Vec<Group>,
    /// Also these peers, with commas between them; all when none is named.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        value_name = "PEERS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "swarm,etcd,runtimes"
    )]
    peers: Vec<Peer>,
    /// Only the peers.
    #[arg(long, requires = "peers")]
    pub without_ours: bool,
    /// Where the samples go, as JSON; a table goes beside it, as Markdown. Default: bench.json in the target folder.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// The profile that the product was built with, for the record.
    #[arg(long, default_value = "unknown", value_name = "NAME")]
    pub profile: String,
}

/// Measures, prints a table, and writes it.
///
/// # Errors
/// When a cluster does not do what is measured; what was measured by then is still written.
pub fn run(options: &Options) -> Result<()> {
    if let Some(reason) = harness::missing() {
        bail!("the measurement {reason}");
    }
    let output = options.output.clone().unwrap_or_else(|| harness::target().join("bench.json"));
    let runtime = api::runtime()?;
    // Both: waiting in labs and waiting here.
    interrupt::catch(&runtime)?;
    lab::catch_interrupt(&runtime)?;
    let mut report = Report::new(Machine::look(&options.profile, options.repetitions));
    let result = measure(options, &mut report);
    // Also after a failure: what was measured by then is worth seeing.
    println!("\n{report}");
    report.write(&output)?;
    println!("written to {} and {}", output.display(), output.with_extension("md").display());
    result
}

/// Ours first, then the peers, one cluster at a time.
fn measure(options: &Options, report: &mut Report) -> Result<()> {
    if !options.without_ours {
        measure_ours(options, report)?;
    }
    for peer in Peer::ALL.into_iter().filter(|peer| options.peers.contains(peer)) {
        peer.measure(options, report)?;
    }
    Ok(())
}

fn measure_ours(options: &Options, report: &mut Report) -> Result<()> {
    report.of(System::Coracle);
    if options.wants(Group::Schedule) {
        group::watched(Group::Schedule, report, schedule::measure)?;
    }
    if options.wants(Group::Plan) {
        group::watched(Group::Plan, report, plan::measure)?;
    }
    for (managers, workers) in [(3, 2), (1, 0)] {
        let groups = options.groups(managers + workers);
        if groups.is_empty() {
            continue;
        }
        let binary = harness::built("CORACLE_BIN", "coracle")?;
        report.machine().version("coracle", std::process::Command::new(&binary).arg("--version"));
        println!("Coracle: forming a cluster of {managers} managers and {workers} workers");
        let folder = harness::target().join("bench");
        let mut lab = Lab::new(Plan::bound(&folder, &binary))?;
        let formed = Coracle::form(&mut lab, managers, workers);
        let mut subject = Coracle::new(lab);
        let result = formed.and_then(|()| group::measure_all(&groups, &mut subject, options, report));
        let lab = subject.into_lab();
        if result.is_err() {
            lab.keep_artifacts();
        }
        let ended = lab.end();
        result.and(ended)?;
    }
    Ok(())
}

impl Options {
    fn wants(&self, group: Group) -> bool {
        self.only.is_empty() || self.only.contains(&group)
    }

    /// The groups that are wanted of those that need a cluster of this many hosts, in their order.
    fn groups(&self, hosts: u8) -> Vec<Group> {
        Group::of_cluster(hosts).iter().copied().filter(|group| self.wants(*group)).collect()
    }
}
