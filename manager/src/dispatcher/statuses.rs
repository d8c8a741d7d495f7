//! Reports of all agents, written together: a report is proposed at once when nothing is under way, and everything that
//! arrives meanwhile goes into the next entries.

use std::future::Future;

use coracle_manager_core::change::Change;
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
    loop {
        let first = tokio::select! {
            () = stop.cancelled() => return,
            first = queue.recv() => first,
        };
        let Some(first) = first else { return };
        let mut count = first.tasks.len();
        let mut reports = vec![first];
        while count < STATUSES_OF_ONE_ENTRY
            && let Ok(next) = queue.try_recv()
        {
            count += next.tasks.len();
            reports.push(next);
        }
        let written = tokio::select! {
            () = stop.cancelled() => return,
            written = write(&store, term, &mut reports) => written,
        };
        if written {
            for report in reports {
                // A session that ended meanwhile does not mind.
                let _ = report.written.send(());
            }
        }
    }
}

/// Writes all reports; says whether they are in the store. A report that could not be written is not acknowledged, and its
/// agent sends it again on its next session.
async fn write(store: &Store, term: u64, reports: &mut [Report]) -> bool {
    let changes: Vec<_> = reports
        .iter_mut()
        .flat_map(|report| {
            let node = Some(report.node);
            report.tasks.drain(..).map(move |(task, status)| Change::ReportTask { task, node, status })
        })
        .collect();
    let mut rest = changes.into_iter();
    loop {
        let part: Vec<_> = rest.by_ref().take(STATUSES_OF_ONE_ENTRY).collect();
        if part.is_empty() {
            return true;
        }
        if let Err(error) = store.propose(Write { term, ..Write::internal("status reports", part) }).await {
            warn!(%error, "status reports could not be written; agents will send them again");
            return false;
        }
    }
}
