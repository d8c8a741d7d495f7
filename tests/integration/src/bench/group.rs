//! The groups of measurements, and what is done around each.
#![expect(clippy::print_stdout, reason = "says what goes on")]

use anyhow::{Context as _, Result};

use super::machine::Watch;
use super::report::{self, Report};
use super::subject::Subject;
use super::system::System;
use super::{Options, drain, failures, interrupt, memory, scale, update};

/// A group of measurements that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Group {
    /// Memory and processor time of idle daemons, memory per container, what is installed.
    Memory,
    /// Services of 10 and 100 tasks on five hosts.
    Scale,
    /// Rolling updates.
    Update,
    /// A host is drained.
    Drain,
    /// Writes of many clients.
    Load,
    /// Killed containers, daemons and hosts, cut links.
    Failures,
    /// Services of 1, 10 and 100 tasks on one host.
    Single,
    /// The scheduler alone.
    Schedule,
    /// Planning alone, in large clusters, and the memory that these take.
    Plan,
    /// One container from a bundle.
    Bundle,
}

impl Group {
    /// The groups for a cluster of this many hosts: memory first, while the daemons are fresh.
    pub(super) fn of_cluster(hosts: u8) -> &'static [Self] {
        match hosts {
            5 => &[Self::Memory, Self::Scale, Self::Update, Self::Drain, Self::Load, Self::Failures],
            1 => &[Self::Single],
            _ => &[],
        }
    }
}

/// Measures groups of a cluster one after the other.
pub(super) fn measure_all(
    groups: &[Group],
    subject: &mut dyn Subject,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    let repetitions = options.repetitions;
    // The worst of many is only asked of ours: the peers would take most of the time.
    let kills = if report.system() == System::Coracle { options.leader_kills } else { repetitions };
    for group in groups {
        watched(*group, report, |report| match group {
            Group::Memory => memory::measure(subject, repetitions, report),
            Group::Scale => scale::measure(subject, repetitions, report),
            Group::Update => update::measure(subject, repetitions, report),
            Group::Drain => drain::measure(subject, repetitions, report),
            Group::Load => subject.load(repetitions, report),
            Group::Failures => failures::measure(subject, repetitions, kills, report),
            Group::Single => scale::measure_single(subject, repetitions, report),
            Group::Schedule | Group::Plan | Group::Bundle => Ok(()),
        })?;
    }
    Ok(())
}

/// Measures a group, watches what others do meanwhile, and notes both.
pub(super) fn watched(
    group: Group,
    report: &mut Report,
    work: impl FnOnce(&mut Report) -> Result<()>,
) -> Result<()> {
    interrupt::check()?;
    let (name, system) = (format!("{group:?}").to_lowercase(), report.system());
    println!("{system}: measuring {name}");
    let watch = Watch::start();
    let result = work(report).with_context(|| format!("{system}, {name}"));
    let load = watch.load();
    println!("{system}: {name} took {:.0} s, others used {:.2} cores", load.seconds, load.others);
    report.group(report::Group {
        name,
        system,
        seconds: load.seconds,
        cores_of_others: load.others,
        cores_stolen: load.stolen,
    });
    result
}
