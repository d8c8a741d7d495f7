//! How fast failures heal.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::report::Report;
use super::scale::until;
use crate::lab::{FORM_DEADLINE, Lab};
use crate::name::{M1, Name, W1};
use crate::process;
use crate::view::View;

/// How long one try of a write may take.
const TRY: Duration = Duration::from_millis(200);
/// How long until a write must be acknowledged.
const DEADLINE: Duration = Duration::from_secs(60);

pub(super) fn measure(lab: &mut Lab, repetitions: u32, report: &mut Report) -> Result<()> {
    killed_container(lab, repetitions, report)?;
    for _ in 0..repetitions.max(5) {
        let leader = lab.leader()?;
        let start = Instant::now();
        lab.node(leader).kill_daemon()?;
        report.add("leader killed to next acknowledged write", "s", 0.8, next_write(lab, leader, start)?);
        lab.start_daemon(leader)?;
        whole(lab)?;
    }
    for _ in 0..repetitions {
        let leader = lab.leader()?;
        let start = Instant::now();
        lab.isolate(leader)?;
        report.add("leader's link cut to next acknowledged write", "s", 1.5, next_write(lab, leader, start)?);
        lab.heal(leader)?;
        whole(lab)?;
    }
    for _ in 0..repetitions {
        lost_worker(lab, "worker killed to its tasks elsewhere", 4.0, report, Lab::power_off, Lab::power_on)?;
        lost_worker(lab, "worker's link cut to its tasks elsewhere", 6.0, report, Lab::isolate, Lab::heal)?;
    }
    Ok(())
}

fn whole(lab: &Lab) -> Result<()> {
    lab.eventually_within("whole again", FORM_DEADLINE, |view| view.ready() == 5 && view.voters() == 3)?;
    Ok(())
}

/// Tries small writes on the other managers until one is acknowledged.
fn next_write(lab: &Lab, lost: Name, start: Instant) -> Result<f64> {
    let others: Vec<_> = lab.names().into_iter().filter(|name| name.is_manager() && *name != lost).collect();
    let written = process::wait(DEADLINE, || {
        let mut apis = others.iter().filter_map(|name| lab.api(*name).ok());
        apis.any(|api| api.set_label("w1", "bench", "1", TRY).is_ok()).then(|| start.elapsed().as_secs_f64())
    });
    written.with_context(|| format!("no write was acknowledged within {DEADLINE:?}"))
}

fn killed_container(lab: &Lab, repetitions: u32, report: &mut Report) -> Result<()> {
    lab.cli(M1, "service create --name app --replicas 5 --restart-delay 0s responder:1 sleep").ok()?;
    for _ in 0..repetitions.max(5) {
        let view = until(lab, "all run", |view| view.settled("app", 5))?;
        let task = view.tasks_of("app").find(|task| task.is_running()).context("no task runs")?.clone();
        let node = lab.by_hostname(&task.node)?;
        let start = Instant::now();
        lab.get(node)?.kill_process(task.pid)?;
        let replaced = |view: &View| view.running("app") == 5 && !view.running_ids("app").contains(&task.id);
        until(lab, "it is replaced", replaced)?;
        report.add("killed container to replacement, no delay", "s", 0.1, start.elapsed().as_secs_f64());
    }
    lab.cli(M1, "service rm app").ok()?;
    until(lab, "the service is gone", |view| view.tasks.is_empty())?;
    Ok(())
}

fn lost_worker(
    lab: &mut Lab,
    what: &str,
    target: f64,
    report: &mut Report,
    lose: fn(&mut Lab, Name) -> Result<()>,
    restore: fn(&mut Lab, Name) -> Result<()>,
) -> Result<()> {
    lab.cli(M1, "service create --name app --replicas 20 responder:1 sleep").ok()?;
    until(lab, "all run", |view| view.settled("app", 20))?;
    let start = Instant::now();
    lose(lab, W1)?;
    until(lab, "all run elsewhere", |view| view.running("app") == 20 && view.running_on("app", "w1") == 0)?;
    report.add(what, "s", target, start.elapsed().as_secs_f64());
    restore(lab, W1)?;
    whole(lab)?;
    lab.cli(M1, "service rm app").ok()?;
    until(lab, "the service is gone", |view| view.tasks.is_empty())?;
    Ok(())
}
