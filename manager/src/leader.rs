//! What runs only while this manager leads.
//!
//! Gaining leadership starts everything in [`run_term`], losing it cancels a token and waits until all have ended. No loop knows
//! about leadership: their writes carry the term, so that a write of a deposed leader is refused.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::dispatcher::Dispatcher;
use crate::membership::{MembershipApi, run_role_loop};
use crate::reconcile::{self, LoopTable};
use crate::store::Store;

/// Wait before a new leader tries again to see its own state.
const RETRY: Duration = Duration::from_millis(50);

/// How often a leader makes sure that a majority still follows it, and how long that may take.
const MAJORITY_CHECK: Duration = Duration::from_millis(500);
const MAJORITY_WAIT: Duration = Duration::from_millis(1500);

/// What the leader's work needs.
#[derive(Debug, Clone)]
pub struct Leading {
    /// The replicated state.
    pub store: Store,
    /// Sessions of agents.
    pub dispatcher: Arc<Dispatcher>,
    /// What the loops did.
    pub loops: LoopTable,
    /// Changes of who takes part in Raft: the one that also answers calls, so that there is one change at a time.
    pub membership: MembershipApi,
}

/// Follows leadership until `stop`.
pub async fn run(leading: Leading, stop: CancellationToken) {
    let mut status = leading.store.raft().status();
    let mut check = tokio::time::interval(MAJORITY_CHECK);
    check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut term: Option<(u64, CancellationToken, TaskTracker)> = None;
    loop {
        let now = status.borrow_and_update().clone();
        let wanted = now.is_leader().then_some(now.term);
        if term.as_ref().map(|(term, ..)| *term) != wanted {
            if let Some((number, token, tracker)) = term.take() {
                info!(term = number, "no longer leading");
                token.cancel();
                tracker.wait().await;
            }
            if let Some(number) = wanted {
                info!(term = number, "leading");
                let (token, tracker) = (stop.child_token(), TaskTracker::new());
                tracker.spawn(run_term(leading.clone(), number, token.clone(), tracker.clone()));
                tracker.close();
                term = Some((number, token, tracker));
            }
        }
        tokio::select! {
            () = stop.cancelled() => break,
            changed = status.changed() => if changed.is_err() { break },
            _ = check.tick(), if term.is_some() => {
                // Raft does not tell a leader that it was cut off. Its sessions must not outlast its majority: the agents are
                // to find the leader that the others elect.
                let raft = leading.store.raft();
                if !raft.confirmed_within(MAJORITY_CHECK)
                    && raft.read_barrier(MAJORITY_WAIT).await.is_err()
                    && let Some((number, token, tracker)) = term.take()
                {
                    warn!(term = number, "no majority of the managers answers; its work is suspended");
                    token.cancel();
                    tracker.wait().await;
                }
            }
        }
    }
    if let Some((_, token, tracker)) = term {
        token.cancel();
        tracker.wait().await;
    }
}

/// Starts everything that a leader does, once it has applied what its predecessors acknowledged, and once nothing of its own is
/// under way from when its work was suspended: two plans that are made without knowing of each other would together do more than
/// may be done at a time.
async fn run_term(leading: Leading, term: u64, stop: CancellationToken, tracker: TaskTracker) {
    let Leading { store, dispatcher, loops, membership } = leading;
    loop {
        let caught_up = async {
            store.barrier().await?;
            store.settle(term).await
        };
        let caught_up = tokio::select! {
            () = stop.cancelled() => return,
            caught_up = caught_up => caught_up,
        };
        match caught_up {
            Ok(_) => break,
            Err(error) => warn!(%error, "a new leader cannot confirm its leadership yet"),
        }
        tokio::time::sleep(RETRY).await;
    }
    dispatcher.lead(term, &stop, &tracker);
    tracker.spawn(reconcile::run(store, term, loops, stop.clone()));
    tracker.spawn(run_role_loop(membership, term, stop));
}

#[cfg(test)]
mod tests {
    use coracle_manager_core::session::Holds;

    use super::*;
    use crate::rpc::book::AddressBook;
    use crate::store::Write;
    use crate::store::tests::{image, leading, propose_and_leave};

    #[tokio::test]
    async fn the_work_of_a_leader_begins_when_nothing_of_its_own_is_under_way() {
        let (store, term, _folder) = leading().await;
        let dispatcher = Arc::new(Dispatcher::new(store.clone(), Holds::default()));
        let membership = MembershipApi::new(store.clone(), Arc::clone(&dispatcher), AddressBook::default());
        let leading = Leading { store, dispatcher, loops: LoopTable::default(), membership };
        for number in 0..10 {
            let name = format!("image-{number}");
            propose_and_leave(&leading.store, Write { term, ..image(&name) });
            // Its work was suspended, and begins again.
            let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
            tracker.spawn(run_term(leading.clone(), term, stop.clone(), tracker.clone()));
            tracker.close();
            leading.dispatcher.leading().await.unwrap();
            assert!(leading.store.view().image(&name).is_some(), "{name} may come later");
            stop.cancel();
            tracker.wait().await;
        }
        leading.store.raft().shutdown().await;
    }
}
