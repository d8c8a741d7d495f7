//! How fast services grow and shrink.

use std::time::Instant;

use anyhow::Result;

use super::report::Report;
use super::subject::{
    Restart, Service, Subject, containers, create_and_wait, processor_seconds, remove_and_wait, until,
};

/// On five hosts.
pub(super) fn measure(subject: &mut dyn Subject, repetitions: u32, report: &mut Report) -> Result<()> {
    for _ in 0..repetitions {
        let start = Instant::now();
        create_and_wait(subject, &Service::sleeping(10))?;
        report.add("create 10, five hosts", "s", 0.15, start.elapsed().as_secs_f64());
        remove_and_wait(subject)?;
        create_hundred(subject, report)?;
        to_zero(subject, report)?;
        remove_and_wait(subject)?;
        // Without a network of its own to set up, a container costs every system the same there.
        let service = Service { host_network: true, ..Service::sleeping(100) };
        let start = Instant::now();
        create_and_wait(subject, &service)?;
        report.add("create 100, five hosts, host network", "s", None, start.elapsed().as_secs_f64());
        remove_and_wait(subject)?;
    }
    Ok(())
}

/// On one host.
pub(super) fn measure_single(subject: &mut dyn Subject, repetitions: u32, report: &mut Report) -> Result<()> {
    for _ in 0..repetitions {
        for (replicas, target) in [(1, 0.06), (10, 0.15), (100, 1.2)] {
            let start = Instant::now();
            create_and_wait(subject, &Service::sleeping(replicas))?;
            let what = format!("create {replicas}, one host");
            report.add(&what, "s", target, start.elapsed().as_secs_f64());
            remove_and_wait(subject)?;
        }
    }
    for _ in 0..repetitions {
        let service = Service { restart: Restart::Never, arguments: &["exit", "0"], ..Service::sleeping(1) };
        let start = Instant::now();
        subject.create(&service)?;
        until("the task has ended", || Ok(subject.completed()? == 1))?;
        report.add(
            "one task that ends at once, create to ended, one host",
            "s",
            None,
            start.elapsed().as_secs_f64(),
        );
        remove_and_wait(subject)?;
    }
    Ok(())
}

/// From the command to the last task that is seen running.
fn create_hundred(subject: &dyn Subject, report: &mut Report) -> Result<()> {
    let before = processor_seconds(subject)?;
    let start = Instant::now();
    create_and_wait(subject, &Service::sleeping(100))?;
    report.add("create 100, five hosts", "s", 1.5, start.elapsed().as_secs_f64());
    report.add("create 100, processor time of all", "cpu-s", 3.0, processor_seconds(subject)? - before);
    Ok(())
}

fn to_zero(subject: &dyn Subject, report: &mut Report) -> Result<()> {
    let start = Instant::now();
    subject.to_zero()?;
    until("no process of a container is left", || Ok(containers(subject)? == 0))?;
    report.add("100 to 0, processes gone", "s", 0.5, start.elapsed().as_secs_f64());
    until("no container is left", || subject.is_clear())?;
    report.add("100 to 0, tasks removed", "s", 1.0, start.elapsed().as_secs_f64());
    Ok(())
}
