//! How fast services grow, shrink and change.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::processor_seconds;
use super::report::Report;
use crate::lab::Lab;
use crate::name::M1;
use crate::process;
use crate::view::View;

/// Time within which anything here must have happened.
const DEADLINE: Duration = Duration::from_secs(120);

pub(super) fn measure(lab: &mut Lab, repetitions: u32, report: &mut Report) -> Result<()> {
    for _ in 0..repetitions {
        create(lab, 10, 0.15, report)?;
        remove(lab)?;
        create(lab, 100, 1.5, report)?;
        to_zero(lab, report)?;
        remove(lab)?;
        update(lab, report)?;
        remove(lab)?;
    }
    Ok(())
}

/// From the command to the last task that is seen running.
fn create(lab: &Lab, replicas: usize, target: f64, report: &mut Report) -> Result<()> {
    let before = processor_seconds(lab)?;
    let start = Instant::now();
    lab.cli(M1, &format!("service create --detach --name app --replicas {replicas} responder:1 sleep"))
        .ok()?;
    until(lab, "all run", |view| view.running("app") == replicas)?;
    report.add(&format!("create {replicas}, five hosts"), "s", target, start.elapsed().as_secs_f64());
    let name = format!("create {replicas}, processor time of all");
    report.add(&name, "cpu-s", (replicas == 100).then_some(3.0), processor_seconds(lab)? - before);
    Ok(())
}

fn to_zero(lab: &Lab, report: &mut Report) -> Result<()> {
    let start = Instant::now();
    lab.cli(M1, "service scale --detach app=0").ok()?;
    process::wait(DEADLINE, || containers(lab).is_ok_and(|count| count == 0).then_some(()));
    report.add("100 to 0, processes gone", "s", 0.5, start.elapsed().as_secs_f64());
    until(lab, "all are removed", |view| view.tasks.is_empty())?;
    report.add("100 to 0, tasks removed", "s", 1.0, start.elapsed().as_secs_f64());
    Ok(())
}

/// Processes of containers and supervisors on all hosts.
fn containers(lab: &Lab) -> Result<usize> {
    lab.names().into_iter().map(|name| Ok(lab.get(name)?.other_processes()?.len())).sum()
}

fn update(lab: &Lab, report: &mut Report) -> Result<()> {
    lab.cli(M1, "service create --detach --name app --replicas 20 responder:1 sleep").ok()?;
    let old = until(lab, "all run", |view| view.settled("app", 20))?.running_ids("app");
    let start = Instant::now();
    lab.cli(M1, "service update --detach --env-add ROUND=2 app").ok()?;
    until(lab, "all are new", |view| view.running("app") == 20 && view.running_ids("app").is_disjoint(&old))?;
    report.add("rolling update of 20, one at a time", "s", 4.0, start.elapsed().as_secs_f64());
    Ok(())
}

fn remove(lab: &Lab) -> Result<()> {
    lab.cli(M1, "service rm app").ok()?;
    until(lab, "the service is gone", |view| view.tasks.is_empty() && view.services.is_empty())?;
    // What is measured next must not share the machine with what still ends.
    process::wait(DEADLINE, || containers(lab).is_ok_and(|count| count == 0).then_some(()));
    Ok(())
}

/// Looks every 10 ms or as often as answers come: the lab's own pause would be half of what is measured.
pub(super) fn until(lab: &Lab, what: &str, predicate: impl Fn(&View) -> bool) -> Result<View> {
    let seen = process::wait(DEADLINE, || lab.view().ok().filter(|view| predicate(view)));
    seen.ok_or_else(|| anyhow::anyhow!("not within {DEADLINE:?}: {what}"))
}
