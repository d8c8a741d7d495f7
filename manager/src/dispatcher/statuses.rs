//! Reports of all agents, written together: a report is proposed at once when nothing is under way, and everything that
//! arrives meanwhile goes into the next entries.

use std::collections::BTreeSet;
use std::future::Future;

use coracle_manager_core::change::Change;
use coracle_manager_core::state::State;
use coracle_model::id::{NodeId, TaskId};
use coracle_model::task::TaskStatus;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::store::{Store, Write};

/// Reports that wait at most, over all agents; a session that finds the queue full waits.
const QUEUE: usize = 256;
/// Statuses in one entry at most.
const STATUSES_OF_ONE_ENTRY: usize = 1000;
/// Bytes of their texts in one entry at most, far below what an entry may have: what health checks printed is in there.
const TEXTS_OF_ONE_ENTRY: usize = 512 << 10;

#[derive(Debug)]
struct Report {
    node: NodeId,
    tasks: Vec<(TaskId, TaskStatus)>,
    written: oneshot::Sender<()>,
}

/// Where sessions hand in reports; cheap to clone.
#[derive(Debug, Clone)]
pub struct StatusWriter(mpsc::Sender<Report>);

impl StatusWriter {
    /// Hands in a report. The receiver hears when it is in the store, and nothing if leadership ends before.
    pub async fn report(&self, node: NodeId, tasks: Vec<(TaskId, TaskStatus)>) -> oneshot::Receiver<()> {
        let (written, receiver) = oneshot::channel();
        // A closed channel drops the sender, which the receiver notices.
        let _ = self.0.send(Report { node, tasks, written }).await;
        receiver
    }
}

/// The writer and the task behind it.
pub fn start(store: Store, term: u64, stop: CancellationToken) -> (StatusWriter, impl Future<Output = ()>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (StatusWriter(sender), run(store, term, receiver, stop))
}

async fn run(store: Store, term: u64, mut queue: mpsc::Receiver<Report>, stop: CancellationToken) {
    // Whether the state has every report that was proposed: after one of unknown outcome it may still come.
    let mut sure = true;
    loop {
        let first = tokio::select! {
            () = stop.cancelled() => return,
            first = queue.recv() => first,
        };
        let Some(first) = first else { return };
        let mut count = weight(&first);
        let mut reports = vec![first];
        while count < STATUSES_OF_ONE_ENTRY
            && let Ok(next) = queue.try_recv()
        {
            count += weight(&next);
            reports.push(next);
        }
        let written = tokio::select! {
            () = stop.cancelled() => return,
            written = write(&store, term, &mut reports, sure) => written,
        };
        sure &= written;
        if written {
            for report in reports {
                // A session that ended meanwhile does not mind.
                let _ = report.written.send(());
            }
        }
    }
}

/// What a report counts for: one that is empty counts, too, or an agent that sends them without end would be listened to for ever.
fn weight(report: &Report) -> usize {
    report.tasks.len().max(1)
}

/// Writes all reports; says whether they are in the store. A report that could not be written is not acknowledged, and its
/// agent sends it again on its next session.
async fn write(store: &Store, term: u64, reports: &mut [Report], sure: bool) -> bool {
    let changes = news(&store.view(), reports, sure);
    for part in parts(changes) {
        if let Err(error) = store.propose(Write { term, ..Write::internal("status reports", part) }).await {
            warn!(%error, "status reports could not be written; agents will send them again");
            return false;
        }
    }
    true
}

/// What says something new of tasks of the node that says it; the rest would be entries without effect. After a change of leader all
/// agents report everything that they hold.
///
/// Reports are written one after the other. So the state has all earlier ones, if that is `sure`; and what it has no task for was
/// removed.
fn news(state: &State, reports: &mut [Report], sure: bool) -> Vec<Change> {
    let (mut changes, mut changing) = (Vec::new(), BTreeSet::new());
    for Report { node, tasks, .. } in reports {
        for (task, status) in tasks.drain(..) {
            let Some(known) = state.task(task).filter(|known| known.node == Some(*node)) else { continue };
            // After another report in this very write it may take the task back to what the state still has.
            if !sure || changing.contains(&task) || known.status.clone().advance(&status) {
                changing.insert(task);
                changes.push(Change::ReportTask { task, node: Some(*node), status });
            }
        }
    }
    changes
}

/// Cuts into entries.
fn parts(changes: Vec<Change>) -> Vec<Vec<Change>> {
    let mut parts: Vec<Vec<Change>> = Vec::new();
    let mut bytes = 0;
    for change in changes {
        let more = texts(&change);
        match parts.last_mut() {
            Some(part) if part.len() < STATUSES_OF_ONE_ENTRY && bytes + more <= TEXTS_OF_ONE_ENTRY => {
                part.push(change);
                bytes += more;
            }
            _ => {
                parts.push(vec![change]);
                bytes = more;
            }
        }
    }
    parts
}

fn texts(change: &Change) -> usize {
    let Change::ReportTask { status, .. } = change else { return 0 };
    let results = status.health.iter().flat_map(|health| &health.results);
    status.message.len() + status.error.len() + results.map(|result| result.output.len()).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(bits: u128, output: usize) -> Change {
        let status = TaskStatus { error: "e".repeat(output), ..TaskStatus::default() };
        Change::ReportTask { task: TaskId::from_bits(bits), node: None, status }
    }

    #[test]
    fn entries_are_bounded_by_number_and_by_size_and_nothing_is_left_out() {
        let lengths = |changes: Vec<Change>| parts(changes).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(lengths((0..2500).map(|bits| report(bits, 0)).collect()), [1000, 1000, 500]);
        let third = TEXTS_OF_ONE_ENTRY / 3;
        assert_eq!(lengths((0..7).map(|bits| report(bits, third)).collect()), [3, 3, 1]);
        assert_eq!(lengths(vec![report(1, 0), report(2, TEXTS_OF_ONE_ENTRY + 1), report(3, 0)]), [1, 1, 1]);
        assert_eq!(lengths(Vec::new()), [0; 0]);
    }
}
