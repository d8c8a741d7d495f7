//! Sessions of agents, held by the leader.
//!
//! - [`session`]: one agent's stream.
//! - [`registry`]: who is connected, what each holds; wakes only the sessions that a change concerns.
//! - [`liveness`]: the shell around the core's state machine of heartbeats.
//! - [`statuses`]: reports of all agents, written together.
//! - [`logs`]: log lines that operators asked for.
//! - [`volumes`]: volumes of the nodes, and what operators want done with them.
//! - [`service`]: the gRPC service.

pub mod liveness;
pub mod logs;
pub mod registry;
pub mod service;
pub mod session;
pub mod statuses;
pub mod volumes;

use std::sync::Arc;
use std::time::Duration;

use coracle_manager_core::session::Holds;
use coracle_proto::status::{ApiError, Reason};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::store::Store;

pub use liveness::LivenessHandle;
pub use logs::LogBroker;
pub use registry::Registry;
pub use statuses::StatusWriter;
pub use volumes::VolumeBroker;

/// Everything about agents that one term of leadership has.
#[derive(Debug, Clone)]
pub struct Term {
    /// The number of the term.
    pub number: u64,
    /// Ends with the leadership.
    pub stop: CancellationToken,
    /// Who is connected.
    pub registry: Arc<Registry>,
    /// Who is alive.
    pub liveness: LivenessHandle,
    /// Where reports go.
    pub statuses: StatusWriter,
    /// Where log lines go.
    pub logs: Arc<LogBroker>,
    /// Volumes of the connected nodes.
    pub volumes: Arc<VolumeBroker>,
}

impl Term {
    fn goes_on(&self) -> bool {
        !self.stop.is_cancelled()
    }
}

/// The dispatcher: empty while this manager follows.
#[derive(Debug)]
pub struct Dispatcher {
    store: Store,
    holds: Holds,
    term: watch::Sender<Option<Term>>,
}

/// How long a call waits for the work of a new leader to begin. It has won its election by then and only looks whether it still
/// leads.
const TERM_WAIT: Duration = Duration::from_secs(3);

impl Dispatcher {
    /// A dispatcher over this state; evictions are held back for so long when most nodes vanish at once.
    #[must_use]
    pub fn new(store: Store, holds: Holds) -> Self {
        Self { store, holds, term: watch::Sender::new(None) }
    }

    /// The replicated state.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// The present term, while this manager leads.
    #[must_use]
    pub fn term(&self) -> Option<Term> {
        self.term.borrow().clone().filter(Term::goes_on)
    }

    /// The present term; right after an election it is waited for.
    ///
    /// # Errors
    /// If it does not begin in time: another manager leads, or none.
    pub async fn leading(&self) -> Result<Term, ApiError> {
        let mut terms = self.term.subscribe();
        let begun = terms.wait_for(|term| term.as_ref().is_some_and(Term::goes_on));
        let term = tokio::time::timeout(TERM_WAIT, begun).await.ok().and_then(Result::ok);
        let term = term.and_then(|term| term.clone());
        term.ok_or_else(|| ApiError::new(Reason::NotLeader, "leadership is changing; try again"))
    }

    /// Begins a term of leadership.
    pub fn lead(&self, number: u64, stop: &CancellationToken, tracker: &TaskTracker) {
        let registry = Arc::new(Registry::default());
        let (liveness, run_liveness) = liveness::start(self.store.clone(), number, self.holds, stop.clone());
        let (statuses, run_statuses) = statuses::start(self.store.clone(), number, stop.clone());
        let logs = Arc::new(LogBroker::new(self.store.clone(), Arc::clone(&registry)));
        let volumes = Arc::new(VolumeBroker::new(Arc::clone(&registry), stop.clone()));
        tracker.spawn(run_liveness);
        tracker.spawn(run_statuses);
        tracker.spawn(registry::run_fan_out(self.store.clone(), Arc::clone(&registry), stop.clone()));
        let term = Term { number, stop: stop.clone(), registry, liveness, statuses, logs, volumes };
        self.term.send_replace(Some(term));
    }
}
