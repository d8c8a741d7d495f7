//! How fast all tasks of a service are replaced.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::Result;

use super::report::Report;
use super::subject::{Rollout, Running, Service, Subject, create_and_wait, remove_and_wait, until};

/// Tasks of the service that is updated.
const TASKS: usize = 20;

pub(super) fn measure(subject: &mut dyn Subject, repetitions: u32, report: &mut Report) -> Result<()> {
    let rollouts = [
        ("one at a time", 4.0, Rollout::DEFAULT),
        ("five at a time", 1.2, Rollout { parallelism: 5, start_first: false }),
        ("five at a time, start first", 0.8, Rollout { parallelism: 5, start_first: true }),
    ];
    for (how, target, rollout) in rollouts {
        if !subject.can_update(rollout) {
            let system = report.system();
            report.note(&format!(
                "{system}: rolling update, {how}: skipped, the command line cannot ask for it"
            ));
            continue;
        }
        create_and_wait(subject, &Service { rollout, ..Service::sleeping(TASKS) })?;
        for _ in 0..repetitions {
            let name = format!("rolling update of {TASKS}, {how}");
            report.add(&name, "s", target, replace_all(subject)?);
        }
        remove_and_wait(subject)?;
    }
    Ok(())
}

/// From the command to the last new task that is seen running.
fn replace_all(subject: &dyn Subject) -> Result<f64> {
    until("only the tasks that are wanted run", || Ok(subject.tasks()?.len() == TASKS))?;
    let old: BTreeSet<String> = subject.tasks()?.into_iter().map(|task| task.id).collect();
    let start = Instant::now();
    subject.update()?;
    let is_new = |task: &Running| !old.contains(&task.id);
    until("all new tasks run", || Ok(subject.tasks()?.iter().filter(|task| is_new(task)).count() == TASKS))?;
    Ok(start.elapsed().as_secs_f64())
}
