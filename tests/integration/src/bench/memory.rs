//! Memory and processor time of daemons that have nothing to do, memory per container, and the size of what is
//! installed.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::interrupt;
use super::report::Report;
use super::subject::{Service, Subject, beside_daemons, create_and_wait, installed_size, remove_and_wait};
use super::tree::Tree;
use crate::name::{Name, W1};
use crate::process::{Process, Stat};

/// Containers on one host while the cost of one is measured.
const CONTAINERS: usize = 20;
/// How long daemons are left alone before they are looked at.
const REST: Duration = Duration::from_secs(5);
/// How long idle daemons are watched.
const IDLE: Duration = Duration::from_secs(20);

pub(super) fn measure(subject: &mut dyn Subject, _repetitions: u32, report: &mut Report) -> Result<()> {
    interrupt::sleep(REST)?;
    idle_processor_time(subject, report)?;
    for name in subject.names() {
        let (what, target) = if name.is_manager() { ("manager", 20.0) } else { ("worker", 12.0) };
        let memory = daemon_memory(subject, name)?;
        report.add(&format!("idle {what}, proportional memory"), "MiB", target, memory);
    }
    container_memory(subject, report)?;
    report.add("size of what is installed", "MB", 20.0, installed_size(subject)?);
    Ok(())
}

fn daemon_memory(subject: &dyn Subject, name: Name) -> Result<f64> {
    subject.daemons(name)?.into_iter().map(mebibytes).sum()
}

fn mebibytes(process: Process) -> Result<f64> {
    let bytes =
        process.proportional_memory().with_context(|| format!("memory of process {}", process.pid))?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
    Ok(bytes as f64 / f64::from(1 << 20))
}

/// Processor time of all managers over a while in which nothing happens.
fn idle_processor_time(subject: &dyn Subject, report: &mut Report) -> Result<()> {
    let managers: Vec<Name> = subject.names().into_iter().filter(|name| name.is_manager()).collect();
    let before = managers.iter().map(|name| ticks(subject, *name)).collect::<Result<Vec<_>>>()?;
    interrupt::sleep(IDLE)?;
    for (name, before) in managers.iter().zip(before) {
        let used = ticks(subject, *name)?.saturating_sub(before);
        #[expect(clippy::cast_precision_loss, reason = "a few ticks")]
        let percent = used as f64 / IDLE.as_secs_f64();
        report.add("idle manager, processor", "%", 0.5, percent);
    }
    Ok(())
}

/// Processor time of the daemons of a host; a tick is a hundredth of a second.
fn ticks(subject: &dyn Subject, name: Name) -> Result<u64> {
    let of = |process: Process| Stat::of(process.pid).map(|stat| stat.cpu_ticks);
    let daemons = subject.daemons(name)?;
    daemons.into_iter().map(of).sum::<Option<u64>>().with_context(|| format!("a daemon of {name} ended"))
}

fn container_memory(subject: &dyn Subject, report: &mut Report) -> Result<()> {
    let before = daemon_memory(subject, W1)?;
    create_and_wait(subject, &Service { place: Some(W1), ..Service::sleeping(CONTAINERS) })?;
    let containers = f64::from(u32::try_from(CONTAINERS)?);
    let growth = (daemon_memory(subject, W1)? - before).max(0.0) / containers;
    // Whatever else runs on the host is there because of containers.
    let (_, others) = beside_daemons(subject, &Tree::look(), W1)?;
    let others = others.into_iter().filter_map(Process::of).map(mebibytes).sum::<Result<f64>>()? / containers;
    report.add("per container, processes beside it", "MiB", 0.5, others);
    report.add("per container, those and the daemons' growth", "MiB", 1.0, others + growth);
    remove_and_wait(subject)
}
