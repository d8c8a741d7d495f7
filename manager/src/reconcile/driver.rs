//! The one driver of all planners.
//!
//! Owns: the queue of keys. Woken by: touched keys, due times, ends of proposals, a periodic sweep. One plan of a key is under
//! way at a time; plans of different keys are proposed at once and share the log's syncs. A refused plan is planned again from a
//! newer view. When leadership ends the driver is dropped: whatever it had under way is decided by the log, before the next one
//! begins (`leader.rs`).

use std::collections::BTreeSet;
use std::time::Duration;

use coracle_manager_core::orchestrate::{plan_file, plan_node, plan_reap, plan_rebalance, plan_service};
use coracle_manager_core::plan::{IdSource, Plan, PlanContext};
use coracle_manager_core::schedule::plan_schedule;
use coracle_manager_core::state::View;
use coracle_model::time::Timestamp;
use coracle_proto::status::Reason;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::propose::{Finished, propose};
use super::queue::{Key, Queue};
use super::status::LoopTable;
use crate::store::{Store, Wake, now};

/// Every key is looked at this often even if nothing touched it.
const SWEEP: Duration = Duration::from_secs(30);
/// Refusals in a row of the plans of one key that are more than two who plan the same.
const REFUSED_OFTEN: u32 = 8;
/// Wait before a key is planned again after a failure that is not a refusal.
const RETRY: Duration = Duration::from_millis(200);
/// Plans that are made before others get their turn on this thread, and what was planned is proposed.
const PLANS_AT_ONCE: usize = 32;

/// Identifiers from the system's randomness.
#[derive(Debug)]
struct RandomIds;

impl IdSource for RandomIds {
    fn next(&mut self) -> u128 {
        rand::random()
    }
}

/// Drives all planners until `stop`.
pub async fn run(store: Store, term: u64, table: LoopTable, stop: CancellationToken) {
    let mut feed = store.watch();
    let mut queue = Queue::default();
    queue.push_everything(&store.view());
    let mut under_way = BTreeSet::new();
    let mut proposals: FuturesUnordered<BoxFuture<'static, Finished>> = FuturesUnordered::new();
    let mut sweep = tokio::time::interval(SWEEP);
    loop {
        for _ in 0..PLANS_AT_ONCE {
            let Some(key) = queue.pop(store.present(), &under_way) else { break };
            let plan = plan(&store.view(), key, store.present());
            table.update(key.loop_name(), |status| {
                status.runs += 1;
                status.last_run = now();
            });
            if plan.changes.is_empty() {
                queue.done(key);
                queue.set_wake(key, plan.wake_at);
            } else {
                under_way.insert(key);
                proposals.push(Box::pin(propose(store.clone(), term, key, plan)));
            }
        }
        let wait = queue.next_wake().map_or(SWEEP, |at| at.since(store.present()));
        let more = queue.has_more(&under_way);
        tokio::select! {
            () = stop.cancelled() => return,
            wake = feed.next() => match wake {
                Wake::Touched(touched) => queue.push_touched(&touched, &store.view()),
                Wake::Resync => queue.push_everything(&store.view()),
                Wake::Closed => return,
            },
            Some(finished) = proposals.next(), if !proposals.is_empty() => {
                under_way.remove(&finished.key);
                settle(&mut queue, &table, finished, store.present());
            }
            () = tokio::task::yield_now(), if more => {}
            () = tokio::time::sleep(wait) => {}
            _ = sweep.tick() => queue.push_everything(&store.view()),
        }
    }
}

fn plan(view: &View, key: Key, now: Timestamp) -> Plan {
    let mut ids = RandomIds;
    let mut context = PlanContext { now, ids: &mut ids };
    match key {
        Key::Node(node) => plan_node(view, node, &mut context),
        Key::Service(service) => plan_service(view, service, &mut context),
        Key::Schedule => plan_schedule(view, &mut context),
        Key::Reap(service) => plan_reap(view, service, &mut context),
        Key::Rebalance(service) => plan_rebalance(view, service, &mut context),
        Key::File(file) => plan_file(view, file, &mut context),
    }
}

fn settle(queue: &mut Queue, table: &LoopTable, finished: Finished, now: Timestamp) {
    let Finished { key, changes, wake_at, result } = finished;
    table.update(key.loop_name(), |status| status.changes += changes);
    match result {
        Ok(()) => {
            queue.done(key);
            queue.set_wake(key, wake_at);
            queue.push(key);
        }
        Err(error)
            if matches!(
                error.reason,
                Reason::Stale | Reason::NotFound | Reason::Exists | Reason::Forbidden
            ) =>
        {
            table.update(key.loop_name(), |status| status.refused += 1);
            let times = queue.refused(key, now);
            if times == REFUSED_OFTEN {
                warn!(?key, %error, times, "a plan is refused again and again; it is tried less often");
            } else {
                debug!(?key, %error, "plan refused; planning again");
            }
        }
        Err(error) => {
            warn!(?key, %error, "plan could not be proposed; trying again");
            queue.set_wake(key, Some(now.after(RETRY)));
        }
    }
}
