//! How fast failures heal.

use std::time::Instant;

use anyhow::{Context as _, Result};

use super::report::Report;
use super::subject::{Restart, Service, Subject, create_and_wait, remove_and_wait, until, wait_whole};
use crate::name::{Name, W1};

/// Tasks of the service whose worker is lost.
const TASKS: usize = 20;
/// Killed daemons or cables cut until a median means something.
const AT_LEAST: u32 = 5;

/// A fault of one host, or what takes it back.
type OnHost = fn(&mut dyn Subject, Name) -> Result<()>;

/// `kills` is how often the leader is killed.
pub(super) fn measure(
    subject: &mut dyn Subject,
    repetitions: u32,
    kills: u32,
    report: &mut Report,
) -> Result<()> {
    killed_container(subject, repetitions, report)?;
    for _ in 0..kills {
        let seconds = lost_leader(
            subject,
            |subject, name| subject.kill_daemon(name),
            |subject, name| subject.start_daemon(name),
        )?;
        report.add("leader killed to next acknowledged write", "s", 0.8, seconds);
        report.add_worst("leader killed to next acknowledged write, worst", "s", 2.5, seconds);
    }
    for _ in 0..repetitions {
        let seconds =
            lost_leader(subject, |subject, name| subject.isolate(name), |subject, name| subject.heal(name))?;
        report.add("leader's link cut to next acknowledged write", "s", 1.5, seconds);
    }
    for _ in 0..repetitions {
        let seconds = lost_worker(
            subject,
            |subject, name| subject.power_off(name),
            |subject, name| subject.power_on(name),
        )?;
        report.add("worker killed to its tasks elsewhere", "s", 4.0, seconds);
        let seconds =
            lost_worker(subject, |subject, name| subject.isolate(name), |subject, name| subject.heal(name))?;
        report.add("worker's link cut to its tasks elsewhere", "s", 6.0, seconds);
    }
    Ok(())
}

/// From the fault of the leader to the next write that another manager acknowledges.
fn lost_leader(subject: &mut dyn Subject, lose: OnHost, restore: OnHost) -> Result<f64> {
    let leader = subject.leader()?;
    let start = Instant::now();
    lose(subject, leader)?;
    subject.next_write(leader)?;
    let seconds = start.elapsed().as_secs_f64();
    restore(subject, leader)?;
    wait_whole(subject)?;
    Ok(seconds)
}

fn killed_container(subject: &mut dyn Subject, repetitions: u32, report: &mut Report) -> Result<()> {
    create_and_wait(subject, &Service { restart: Restart::AtOnce, ..Service::sleeping(5) })?;
    for _ in 0..repetitions.max(AT_LEAST) {
        until("only the tasks that are wanted run", || Ok(subject.tasks()?.len() == 5))?;
        let task = subject.tasks()?.into_iter().next().context("no task runs")?;
        let start = Instant::now();
        subject.host(task.host)?.run(["sh", "-c", &format!("kill -9 {}", task.pid)])?;
        until("it is replaced", || {
            let tasks = subject.tasks()?;
            Ok(tasks.len() == 5 && tasks.iter().all(|other| other.id != task.id))
        })?;
        report.add("killed container to replacement, no delay", "s", 0.1, start.elapsed().as_secs_f64());
    }
    remove_and_wait(subject)
}

/// From the fault of a worker to the moment at which all of its tasks run on other hosts.
fn lost_worker(subject: &mut dyn Subject, lose: OnHost, restore: OnHost) -> Result<f64> {
    create_and_wait(subject, &Service::sleeping(TASKS))?;
    let start = Instant::now();
    lose(subject, W1)?;
    until("all run elsewhere", || {
        let tasks = subject.tasks()?;
        Ok(tasks.iter().filter(|task| task.host != W1).count() == TASKS)
    })?;
    let seconds = start.elapsed().as_secs_f64();
    restore(subject, W1)?;
    wait_whole(subject)?;
    remove_and_wait(subject)?;
    Ok(seconds)
}
