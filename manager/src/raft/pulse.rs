//! When openraft looks at its clocks.
//!
//! Left alone it does so fifty times a second on every manager, which is most of what an idle one does. But a leader's clocks only
//! say that the next heartbeat is due, and those of a manager that hears a leader say nothing: an election is far. So
//! heartbeats are given here one by one, and where a leader is heard the clocks stand still. Whoever hears nobody has them running
//! long before an election could be due, so that elections begin exactly when they would have begun.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::async_runtime::{Select2, WatchReceiver as _};
use openraft::metrics::RaftServerMetrics;
use openraft::type_config::alias::WatchReceiverOf;
use openraft::{AsyncRuntime as _, Instant as _, ServerState};

use super::platform::{Moment, Platform};
use super::types::{Raft, TypeConfig};

/// Counts what this manager took from a leader: heartbeats and entries.
#[derive(Debug, Clone, Default)]
pub(crate) struct Heard(Arc<AtomicU64>);

impl Heard {
    /// A leader was heard, and its term is not over.
    pub(crate) fn note(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Raft stopped.
struct Stopped;

/// Who leads, of whom, and in which term, whenever it changes.
type Server<P> = WatchReceiverOf<TypeConfig<P>, RaftServerMetrics<TypeConfig<P>>>;

/// Runs until Raft stops.
pub(crate) async fn run<P: Platform>(raft: Raft<P>, heard: Heard) {
    let mut server: Server<P> = raft.server_metrics();
    loop {
        let (leads, leader) = {
            let server = server.borrow_and_update();
            (server.state == ServerState::Leader, server.current_leader)
        };
        // A vote that was given, a leader that is new or gone, other members: all clocks run until there is a reason that they
        // need not.
        raft.runtime_config().tick(!leads);
        let part = match (leads, leader) {
            (true, _) => beat(&raft, &mut server).await,
            (false, Some(_)) => listen(&raft, &heard, &mut server).await,
            (false, None) => server.changed().await.map_err(|_| Stopped),
        };
        if part.is_err() {
            return;
        }
    }
}

/// Leads, until something changes: tells the others so, at the steady pace that openraft's own ticks have, on which a heartbeat
/// waits for the next tick: six of them.
async fn beat<P: Platform>(raft: &Raft<P>, server: &mut Server<P>) -> Result<(), Stopped> {
    let period = Duration::from_millis(raft.config().heartbeat_interval) * 6 / 5;
    let mut next = Moment::<P>::now();
    loop {
        // Never given up half way: whoever stops waiting for the end of Raft's core makes others panic that ask for it.
        raft.trigger().heartbeat().await.map_err(|_| Stopped)?;
        // Beats that were missed are not made up for.
        next = (next + period).max(Moment::<P>::now());
        match P::Runtime::select2(server.changed(), P::Runtime::sleep_until(next)).await {
            Select2::First(changed) => return changed.map_err(|_| Stopped),
            Select2::Second(()) => {}
        }
    }
}

/// Follows or learns, until something changes: the clocks stand still while the leader is heard.
///
/// They run again after a silence of less than two looks. A follower trusts its leader for `election_timeout_max` after the last
/// sign of life, and waits `election_timeout_min` at least before it stands for election, so that they run in time.
async fn listen<P: Platform>(raft: &Raft<P>, heard: &Heard, server: &mut Server<P>) -> Result<(), Stopped> {
    let look = Duration::from_millis(raft.config().election_timeout_min);
    let mut before = heard.count();
    loop {
        match P::Runtime::select2(server.changed(), P::Runtime::sleep(look)).await {
            Select2::First(changed) => return changed.map_err(|_| Stopped),
            Select2::Second(()) => {}
        }
        let count = heard.count();
        raft.runtime_config().tick(count == before);
        before = count;
    }
}
