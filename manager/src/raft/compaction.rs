//! When to make a snapshot and drop the log before it: by bytes, looked at again and again.
//!
//! openraft counts entries only, and an entry may have a few bytes or a megabyte. Looking at the level instead of
//! counting events also is the watchdog: a trigger that was lost is given again.

use std::sync::Arc;
use std::time::Duration;

use coracle_wal::Log;
use openraft::AsyncRuntime as _;
use openraft::async_runtime::WatchReceiver as _;

use super::platform::Platform;
use super::settings::Limits;
use super::types::Raft;

/// How often to look.
const PERIOD: Duration = Duration::from_secs(1);

/// How often to repeat a trigger for the same snapshot: building one may take a while.
const PATIENCE: u32 = 10;

/// Runs until Raft stops.
pub(crate) async fn run<P: Platform>(raft: Raft<P>, log: Arc<Log>, limits: Limits) {
    let metrics = raft.metrics();
    let mut triggered: Option<(Option<u64>, u32)> = None;
    loop {
        P::Runtime::sleep(PERIOD).await;
        let (snapshot, applied, running) = {
            let metrics = metrics.borrow_watched();
            let index = |log_id: &Option<super::types::LogId>| log_id.as_ref().map(|log_id| log_id.index);
            (index(&metrics.snapshot), index(&metrics.last_applied), metrics.running_state.is_ok())
        };
        if !running {
            return;
        }
        let grown = log.bytes_after(snapshot);
        if grown > limits.snapshot_bytes && applied > snapshot {
            let repeated =
                triggered.filter(|(for_snapshot, _)| *for_snapshot == snapshot).map(|(_, ticks)| ticks);
            triggered = Some((snapshot, repeated.map_or(0, |ticks| ticks + 1)));
            if repeated.is_none_or(|ticks| (ticks + 1) % PATIENCE == 0) {
                if repeated.is_some() && grown > 3 * limits.snapshot_bytes {
                    tracing::warn!(bytes = grown, "the Raft log grows and no snapshot is made; asking again");
                }
                if raft.trigger().snapshot().await.is_err() {
                    return;
                }
            }
        }
        if let Some(snapshot) = snapshot
            && log.bytes_after(None).saturating_sub(grown) > limits.keep_bytes
            && raft.trigger().purge_log(snapshot).await.is_err()
        {
            return;
        }
    }
}
