//! How fast a host that is drained is empty, and its tasks run elsewhere.

use std::time::Instant;

use anyhow::Result;

use super::report::Report;
use super::subject::{Service, Subject, create_and_wait, remove_and_wait, until};
use crate::name::{Name, W1};

/// Tasks of the host.
const TASKS: usize = 50;

pub(super) fn measure(subject: &mut dyn Subject, repetitions: u32, report: &mut Report) -> Result<()> {
    let others: Vec<Name> = subject.names().into_iter().filter(|name| *name != W1).collect();
    for _ in 0..repetitions {
        // All tasks begin on one host, and afterwards every other may take them.
        set_drained(subject, &others, true)?;
        create_and_wait(subject, &Service::sleeping(TASKS))?;
        set_drained(subject, &others, false)?;
        let start = Instant::now();
        subject.set_drained(W1, true)?;
        until("all tasks run elsewhere", || {
            let tasks = subject.tasks()?;
            Ok(tasks.iter().filter(|task| task.host != W1).count() == TASKS)
        })?;
        let what = format!("drain of a node with {TASKS} tasks, all run elsewhere");
        report.add(&what, "s", 3.0, start.elapsed().as_secs_f64());
        subject.set_drained(W1, false)?;
        remove_and_wait(subject)?;
    }
    Ok(())
}

fn set_drained(subject: &dyn Subject, names: &[Name], drained: bool) -> Result<()> {
    names.iter().try_for_each(|name| subject.set_drained(*name, drained))
}
