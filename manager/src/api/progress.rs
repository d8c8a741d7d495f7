//! The convergence of one service, now and after every change.

use coracle_manager_core::counts::{self, Counts, Progress};
use coracle_manager_core::state::View;
use coracle_model::id::ServiceId;
use coracle_proto::v1;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::store::{Store, Wake};

/// Counts as they travel.
#[must_use]
pub fn counts(counts: &Counts) -> v1::ServiceCounts {
    v1::ServiceCounts {
        running: counts.running,
        desired: counts.desired,
        completed: counts.completed,
        total: counts.total,
    }
}

/// Sends progress until the watcher goes, the service is gone with all its tasks, or leadership ends.
pub async fn run(
    store: Store,
    service: ServiceId,
    sender: mpsc::Sender<Result<v1::ServiceProgress, Status>>,
    stop: CancellationToken,
) {
    let mut feed = store.watch();
    let mut last = None;
    loop {
        let view = store.view();
        let mut message = render(&view, service);
        let over = message.service.is_none() && message.remaining_tasks == 0;
        // The index alone is no news.
        if last.as_ref() != Some(&message) {
            last = Some(message.clone());
            message.index = view.index();
            if sender.send(Ok(message)).await.is_err() {
                return;
            }
        }
        if over {
            return;
        }
        loop {
            let wake = tokio::select! {
                () = stop.cancelled() => {
                    let _ = sender.send(Err(Status::unavailable("leadership has changed; watch again"))).await;
                    return;
                }
                () = sender.closed() => return,
                wake = feed.next() => wake,
            };
            match wake {
                // Whatever is reported of tasks of others matters only where a task waits for room.
                Wake::Touched(touched)
                    if !touched.services.contains(&service) && !touched.membership && !touched.pending => {}
                Wake::Touched(_) | Wake::Resync => break,
                Wake::Closed => return,
            }
        }
    }
}

/// Without the index.
fn render(view: &View, service: ServiceId) -> v1::ServiceProgress {
    let progress: Progress = counts::progress(view, service);
    let hostname = |node| view.node(node).map(|node| node.description.hostname.clone()).unwrap_or_default();
    v1::ServiceProgress {
        service: view.service(service).map(|service| (&**service).into()),
        counts: Some(counts(&progress.counts)),
        up_to_date: progress.up_to_date,
        converged: progress.converged,
        slots: progress
            .slots
            .iter()
            .map(|slot| v1::SlotProgress {
                slot: Some((&slot.slot).into()),
                node_hostname: slot.node.map(hostname).unwrap_or_default(),
                state: u32::from(slot.state.number()),
                error: slot.error.clone(),
            })
            .collect(),
        waiting: progress.waiting,
        remaining_tasks: progress.remaining,
        index: 0,
    }
}
