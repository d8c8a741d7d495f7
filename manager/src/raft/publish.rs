//! What Raft does, for those who watch: openraft's metrics in our words.

use std::time::Duration;

use openraft::AsyncRuntime as _;
use openraft::async_runtime::WatchReceiver as _;
use openraft::error::Fatal;
use tokio::sync::watch;

use super::platform::Platform;
use super::status::RaftStatus;
use super::types::Raft;

/// Shortest time between two reports of how far the log is.
const PROGRESS_PAUSE: Duration = Duration::from_millis(100);

/// Publishes until Raft stops, and then, unless it was told to, why.
pub(crate) async fn publish<P: Platform>(
    raft: Raft<P>,
    status: watch::Sender<RaftStatus>,
    failure: watch::Sender<Option<String>>,
) {
    let (metrics, mut server) = (raft.metrics(), raft.server_metrics());
    // The metrics themselves are sent with every heartbeat.
    let (mut logged, mut applied) = (raft.watch_log_progress(), raft.watch_apply_progress());
    let mut snapshot = raft.watch_snapshot_progress();
    let (mut open, mut news) = (true, true);
    loop {
        let (new, failed) = {
            let metrics = metrics.borrow_watched();
            (RaftStatus::from_metrics(&metrics), metrics.running_state.clone().err())
        };
        let changed = status.send_if_modified(|old| {
            let changed = *old != new;
            *old = new;
            changed
        });
        if failed.is_some() {
            // openraft keeps the end of its core for whoever waits for it first. If that is the handler of a call, which is
            // cancelled as soon as others hear of the end, everybody who asks later panics (`get_core_stop_error`). So
            // nobody hears of it before the core has ended altogether.
            let _ = raft.shutdown().await;
        }
        match failed {
            None => {}
            Some(Fatal::Stopped) => return,
            Some(fatal) => {
                failure.send_replace(Some(fatal.to_string()));
                return;
            }
        }
        if !open {
            return;
        }
        // Who leads, and of whom, is told at once. How far the log is changes with every entry: it is told now and then, or
        // every write would wake all who watch. News come a little before the metrics that they are about, so that one more
        // look follows each.
        let look_again = changed || news;
        let progress = async {
            if look_again {
                P::Runtime::sleep(PROGRESS_PAUSE).await;
                return (true, false);
            }
            let news = tokio::select! {
                logged = logged.changed() => logged,
                applied = applied.changed() => applied,
                snapshot = snapshot.changed() => snapshot,
            };
            (news.is_ok(), true)
        };
        // Once it is closed, the last word is to be read: why Raft ended.
        (open, news) = tokio::select! {
            biased;
            changed = server.changed() => (changed.is_ok(), true),
            progress = progress => progress,
        };
    }
}
