//! A service's progress in one line.

use coracle_model::task::TaskState;
use coracle_proto::v1;

/// `2/3 tasks running`, and during an update how many are of the present specification.
pub(crate) fn line(progress: &v1::ServiceProgress) -> String {
    let counts = progress.counts.unwrap_or_default();
    if progress.service.as_ref().is_some_and(|service| service.job.is_some()) {
        return format!("{} running, {}/{} completed", counts.running, counts.completed, counts.total);
    }
    let tasks = if counts.desired == 1 { "task" } else { "tasks" };
    let back = if is_going_back(progress) { "rolling back: " } else { "" };
    let running = format!("{back}{}/{} {tasks} running", counts.running, counts.desired);
    let rebalance = progress.service.as_ref().and_then(|service| service.rebalance.as_ref());
    if let Some(rebalance) =
        rebalance.filter(|rebalance| rebalance.state == i32::from(v1::RebalanceState::Moving))
    {
        return format!(
            "{running}, rebalancing: {} moved",
            rebalance.moves.saturating_sub(u64::from(rebalance.moving.is_some()))
        );
    }
    if progress.up_to_date < counts.desired && counts.running >= counts.desired {
        return format!("{running}, {}/{} up to date", progress.up_to_date, counts.desired);
    }
    running
}

fn is_going_back(progress: &v1::ServiceProgress) -> bool {
    let update = progress.service.as_ref().and_then(|service| service.update.as_ref());
    update.is_some_and(|update| update.state == i32::from(v1::UpdateState::RollbackStarted))
}

/// The same with what it waits for and what went wrong.
pub(crate) fn with_reasons(progress: &v1::ServiceProgress) -> String {
    let mut parts = vec![line(progress)];
    parts.extend(progress.waiting.iter().cloned());
    parts.extend(errors(progress));
    parts.join("; ")
}

/// Slots of a service that has converged whose task failed: the restart policy wants no other.
pub(crate) fn failed_for_good(progress: &v1::ServiceProgress) -> usize {
    let is_job = progress.service.as_ref().is_some_and(|service| service.job.is_some());
    let failed = [TaskState::Failed, TaskState::Rejected].map(|state| u32::from(state.number()));
    let slots = progress.slots.iter().filter(|slot| failed.contains(&slot.state));
    if progress.converged && !is_job { slots.count() } else { 0 }
}

/// What went wrong in slots that do not run.
pub(crate) fn errors(progress: &v1::ServiceProgress) -> Vec<String> {
    let running = u32::from(TaskState::Running.number());
    let broken = progress.slots.iter().filter(|slot| !slot.error.is_empty() && slot.state != running);
    let mut errors: Vec<String> = broken.map(|slot| slot.error.clone()).collect();
    errors.sort();
    errors.dedup();
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_counts_tasks() {
        let progress = |running, desired, up_to_date| v1::ServiceProgress {
            counts: Some(v1::ServiceCounts { running, desired, ..Default::default() }),
            up_to_date,
            ..Default::default()
        };
        assert_eq!(line(&progress(1, 3, 3)), "1/3 tasks running");
        assert_eq!(line(&progress(1, 1, 1)), "1/1 task running");
        assert_eq!(line(&progress(3, 3, 1)), "3/3 tasks running, 1/3 up to date");
        let job = v1::ServiceProgress {
            service: Some(v1::Service { job: Some(Default::default()), ..Default::default() }),
            counts: Some(v1::ServiceCounts { running: 2, desired: 2, completed: 3, total: 6 }),
            ..Default::default()
        };
        assert_eq!(line(&job), "2 running, 3/6 completed");
    }

    #[test]
    fn only_what_is_not_tried_again_failed_for_good() {
        let slot = |state| v1::SlotProgress { state, ..Default::default() };
        let progress = |converged, job| v1::ServiceProgress {
            converged,
            service: Some(v1::Service { job, ..Default::default() }),
            slots: vec![slot(704), slot(768), slot(576), slot(512)],
            ..Default::default()
        };
        assert_eq!(failed_for_good(&progress(true, None)), 2);
        assert_eq!(failed_for_good(&progress(false, None)), 0, "it goes on");
        assert_eq!(failed_for_good(&progress(true, Some(Default::default()))), 0, "a job counts by itself");
    }

    #[test]
    fn reasons_are_told_once() {
        let slot =
            |state, error: &str| v1::SlotProgress { state, error: error.to_owned(), ..Default::default() };
        let progress = v1::ServiceProgress {
            counts: Some(v1::ServiceCounts { running: 0, desired: 2, ..Default::default() }),
            slots: vec![slot(64, "exit status 1"), slot(64, "exit status 1"), slot(512, "old")],
            waiting: vec!["2 nodes: not enough memory".to_owned()],
            ..Default::default()
        };
        assert_eq!(with_reasons(&progress), "0/2 tasks running; 2 nodes: not enough memory; exit status 1");
    }
}
