//! Memory of daemons and supervisors, and the size of what is installed.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::report::Report;
use super::scale::until;
use crate::harness;
use crate::lab::Lab;
use crate::name::{M1, Name, W1};
use crate::process::{self, Process, Stat};

/// Containers per host while the cost of one is measured.
const CONTAINERS: u32 = 20;
/// How long idle daemons are watched.
const IDLE: Duration = Duration::from_secs(10);

pub(super) fn measure(lab: &mut Lab, _repetitions: u32, report: &mut Report) -> Result<()> {
    idle_processor_time(lab, report)?;
    for name in lab.names() {
        let (what, target) = if name.is_manager() { ("manager", 20.0) } else { ("worker", 12.0) };
        report.add(&format!("idle {what}, proportional memory"), "MiB", target, daemon_memory(lab, name)?);
    }
    container_memory(lab, report)?;
    report.add("size of the binary, release", "MB", 20.0, binary_size(lab)?);
    Ok(())
}

fn daemon(lab: &Lab, name: Name) -> Result<Process> {
    lab.get(name)?.daemon().with_context(|| format!("no daemon on {name}"))
}

fn daemon_memory(lab: &Lab, name: Name) -> Result<f64> {
    mebibytes(daemon(lab, name)?)
}

fn mebibytes(process: Process) -> Result<f64> {
    let bytes =
        process.proportional_memory().with_context(|| format!("memory of process {}", process.pid))?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
    Ok(bytes as f64 / f64::from(1 << 20))
}

/// Ticks of all managers over a while in which nothing happens.
fn idle_processor_time(lab: &Lab, report: &mut Report) -> Result<()> {
    let managers: Vec<Name> = lab.names().into_iter().filter(|name| name.is_manager()).collect();
    let ticks = |name: &Name| Some(Stat::of(daemon(lab, *name).ok()?.pid)?.cpu_ticks);
    let before: Vec<_> = managers.iter().map(ticks).collect();
    std::thread::sleep(IDLE);
    for (before, after) in before.into_iter().zip(managers.iter().map(ticks)) {
        let used = after.zip(before).context("a manager ended while it was idle")?;
        #[expect(clippy::cast_precision_loss, reason = "a few ticks")]
        let percent = (used.0 - used.1) as f64 / IDLE.as_secs_f64();
        report.add("idle manager, processor", "%", 0.5, percent);
    }
    Ok(())
}

fn container_memory(lab: &Lab, report: &mut Report) -> Result<()> {
    let before = daemon_memory(lab, W1)?;
    let place = "--constraint node.hostname==w1";
    lab.cli(
        M1,
        &format!("service create --detach --name app --replicas {CONTAINERS} {place} responder:1 sleep"),
    )
    .ok()?;
    let view = until(lab, "all run", |view| view.settled("app", CONTAINERS as usize))?;
    let growth = (daemon_memory(lab, W1)? - before).max(0.0) / f64::from(CONTAINERS);
    let node = lab.get(W1)?;
    let programs = view.tasks_of("app").filter_map(|task| node.process(task.pid).ok()?);
    let programs: Vec<i32> = programs.map(|process| process.pid).collect();
    // Whatever else runs on the host is there because of containers: supervisors.
    let others = node.other_processes()?.into_iter().filter(|process| !programs.contains(&process.pid));
    let supervisors: f64 = others.map(mebibytes).sum::<Result<f64>>()? / f64::from(CONTAINERS);
    report.add("per container, supervisor", "MiB", 0.5, supervisors);
    report.add("per container, supervisor and daemon's growth", "MiB", 1.0, supervisors + growth);
    lab.cli(M1, "service rm app").ok()?;
    let gone =
        process::wait(Duration::from_secs(60), || lab.view().ok().filter(|view| view.tasks.is_empty()));
    gone.context("the service is not gone after a minute").map(drop)
}

/// The release file where there is one, else the lab's, which is larger.
fn binary_size(lab: &Lab) -> Result<f64> {
    let release =
        harness::target().join(format!("{}-unknown-linux-gnu/release/coracle", std::env::consts::ARCH));
    let path = if release.is_file() { release } else { lab.binary().to_owned() };
    let bytes = fs::metadata(&path).with_context(|| format!("size of {}", path.display()))?.len();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
    Ok(bytes as f64 / 1e6)
}
