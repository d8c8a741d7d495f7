//! The handle to this manager's Raft.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use coracle_seal::KeyRing;
use coracle_wal::{DiskStorage, Log, Options, Space};
use futures::future::AbortHandle;
use openraft::AsyncRuntime as _;
use openraft::async_runtime::{Watch as _, WatchReceiver as _, WatchSender as _};
use openraft::error::{InitializeError, RaftError as OpenraftError};
use openraft::type_config::alias::WatchOf;
use tokio::sync::watch;

use super::compaction;
use super::error::{RaftError, RaftStartError};
use super::files::Files;
use super::identity::Identity;
use super::log_store::LogStore;
use super::network::{Connect, Http2, PeerConnector, PeerFactory, Peers};
use super::platform::{Flag, FlagSetter, Host, Platform};
use super::publish::publish;
use super::pulse::{self, Heard};
use super::service::RaftService;
use super::settings::{self, Limits, Timing};
use super::snapshot::SnapshotStore;
use super::state::ReplicatedState;
use super::state_machine::StateMachine;
use super::status::RaftStatus;
use super::types::{Member, Raft, TypeConfig};

/// How long one attempt to complete an earlier leader's membership change may take.
const COMPLETE_CHANGE: Duration = Duration::from_secs(10);

/// What this manager's Raft is to be.
#[derive(Debug, Clone)]
pub struct RaftConfig {
    /// The cluster; peers of another one are refused.
    pub cluster_id: String,
    /// This manager. Never used again once it has left.
    pub raft_id: u64,
    /// Where log, snapshots and identity are.
    pub directory: PathBuf,
    /// The clocks of elections.
    pub timing: Timing,
    /// How much log is kept.
    pub limits: Limits,
    /// Sizes of the log.
    pub log: Options,
}

impl RaftConfig {
    /// With default timing and sizes.
    #[must_use]
    pub fn new(cluster_id: impl Into<String>, raft_id: u64, directory: impl Into<PathBuf>) -> Self {
        Self {
            cluster_id: cluster_id.into(),
            raft_id,
            directory: directory.into(),
            timing: Timing::default(),
            limits: Limits::default(),
            log: Options::default(),
        }
    }

    /// With the smallest log, if `small`: for tests of what happens when it is cut.
    #[must_use]
    pub fn with_small_log(self, small: bool) -> Self {
        if !small {
            return self;
        }
        let log = Options { segment_bytes: settings::SMALL_SEGMENT, ..self.log };
        Self { limits: Limits::SMALL, log, ..self }
    }
}

/// This manager's Raft; a clone is another handle to it. End it with [`RaftNode::shutdown`].
#[derive(Debug, Clone)]
pub struct RaftNode<P: Platform = Host> {
    inner: Arc<Inner<P>>,
}

struct Inner<P: Platform> {
    raft: Raft<P>,
    log: Arc<Log>,
    identity: Identity,
    snapshots: Arc<SnapshotStore>,
    heard: Heard,
    status: watch::Receiver<RaftStatus>,
    failure: watch::Receiver<Option<String>>,
    recovered: Flag<P>,
    stopped: Flag<P>,
    _setters: std::sync::Mutex<[FlagSetter<P>; 2]>,
    changing: Arc<tokio::sync::Mutex<()>>,
    background: std::sync::Mutex<Vec<AbortHandle>>,
}

impl<P: Platform> fmt::Debug for Inner<P> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Inner").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl<P: Platform> Drop for Inner<P> {
    fn drop(&mut self) {
        for task in self.background.get_mut().unwrap_or_else(PoisonError::into_inner) {
            task.abort();
        }
    }
}

impl RaftNode {
    /// Opens log and snapshots, restores `state`, and takes part.
    ///
    /// # Errors
    /// [`RaftStartError`]: damage, another manager's directory, unusable settings.
    pub async fn start(
        config: RaftConfig,
        ring: &KeyRing,
        state: Arc<dyn ReplicatedState>,
        connector: Arc<dyn PeerConnector>,
    ) -> Result<Self, RaftStartError> {
        let identity = Identity { cluster_id: config.cluster_id.clone(), raft_id: config.raft_id };
        let openraft_config = settings::config(&config.cluster_id, &config.timing, &config.limits)?;
        let opened = {
            let (config, ring, identity) = (config.clone(), ring.clone(), identity.clone());
            tokio::task::spawn_blocking(move || open(&config, &ring, &identity))
                .await
                .map_err(|error| RaftStartError::Raft { reason: error.to_string() })?
        };
        let Files { log, snapshots } = opened?;
        let parts = Parts { identity, log, snapshots, state };
        Self::take_part(config.limits, openraft_config, Arc::new(Http2(connector)), parts).await
    }
}

/// What a manager's Raft is put together from.
pub(crate) struct Parts {
    pub(crate) identity: Identity,
    pub(crate) log: Arc<Log>,
    pub(crate) snapshots: Arc<SnapshotStore>,
    pub(crate) state: Arc<dyn ReplicatedState>,
}

impl<P: Platform> RaftNode<P> {
    /// Restores the state and takes part.
    pub(crate) async fn take_part(
        limits: Limits,
        settings: openraft::Config,
        connector: Arc<dyn Connect>,
        parts: Parts,
    ) -> Result<Self, RaftStartError> {
        let Parts { identity, log, snapshots, state } = parts;
        let raft = Raft::<P>::new(
            identity.raft_id,
            Arc::new(settings),
            PeerFactory::new(Peers::new(identity.clone(), connector, snapshots.clone())),
            LogStore::<P>::new(log.clone()),
            StateMachine::new(state, snapshots.clone()),
        )
        .await
        .map_err(|fatal| RaftStartError::Raft { reason: fatal.to_string() })?;
        Ok(Self::assemble(raft, log, identity, snapshots, limits))
    }

    fn assemble(
        raft: Raft<P>,
        log: Arc<Log>,
        identity: Identity,
        snapshots: Arc<SnapshotStore>,
        limits: Limits,
    ) -> Self {
        let (status_sender, status) =
            watch::channel(RaftStatus { raft_id: identity.raft_id, ..RaftStatus::default() });
        let (failure_sender, failure) = watch::channel(None);
        let (recovered_setter, recovered) = WatchOf::<TypeConfig<P>>::channel(false);
        let (stopped_setter, stopped) = WatchOf::<TypeConfig<P>>::channel(false);
        let mut background = Vec::new();
        spawn::<P>(&mut background, {
            let (publish, stopped) =
                (publish(raft.clone(), status_sender, failure_sender), stopped_setter.clone());
            async move {
                publish.await;
                stopped.send_if_different(true);
            }
        });
        let heard = Heard::default();
        spawn::<P>(&mut background, pulse::run(raft.clone(), heard.clone()));
        spawn::<P>(&mut background, compaction::run(raft.clone(), log.clone(), limits));
        spawn::<P>(&mut background, {
            let (raft, recovered) = (raft.clone(), recovered_setter.clone());
            async move {
                if raft.wait_for_recovery(None).await.is_ok() {
                    recovered.send_if_different(true);
                }
            }
        });
        let inner = Arc::new(Inner {
            raft,
            log,
            identity,
            snapshots,
            heard,
            status,
            failure,
            recovered,
            stopped,
            changing: Arc::default(),
            _setters: std::sync::Mutex::new([recovered_setter, stopped_setter]),
            background: std::sync::Mutex::default(),
        });
        spawn::<P>(&mut background, complete_changes(Arc::downgrade(&inner)));
        *inner.background.lock().unwrap_or_else(PoisonError::into_inner) = background;
        Self { inner }
    }

    pub(crate) fn raft(&self) -> &Raft<P> {
        &self.inner.raft
    }

    pub(crate) fn watched_status(&self) -> &watch::Receiver<RaftStatus> {
        &self.inner.status
    }

    pub(crate) fn recovered(&self) -> Flag<P> {
        self.inner.recovered.clone()
    }

    pub(crate) fn changing(&self) -> Arc<tokio::sync::Mutex<()>> {
        self.inner.changing.clone()
    }

    /// This manager's Raft id.
    #[must_use]
    pub fn raft_id(&self) -> u64 {
        self.inner.identity.raft_id
    }

    /// The service that answers other managers.
    #[must_use]
    pub fn service(&self) -> RaftService<P> {
        let inner = &self.inner;
        RaftService::new(
            inner.raft.clone(),
            inner.identity.clone(),
            inner.snapshots.clone(),
            inner.heard.clone(),
            inner.stopped.clone(),
        )
    }

    /// What Raft is doing; changes are published as they happen. A hint, never a barrier.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<RaftStatus> {
        self.inner.status.clone()
    }

    /// On the leader: the managers whose Raft has answered within `window`, this one included. Nobody on others.
    #[must_use]
    pub fn answering(&self, window: Duration) -> BTreeSet<u64> {
        let metrics = self.inner.raft.metrics().borrow_watched().clone();
        let Some(heard) = metrics.heartbeat else { return BTreeSet::new() };
        let fresh = heard
            .into_iter()
            .filter(|(_, at)| at.is_some_and(|at| openraft::Instant::elapsed(&at.into_inner()) <= window));
        fresh.map(|(raft_id, _)| raft_id).chain([metrics.id]).collect()
    }

    /// Resolves with the reason once Raft has failed for good (storage, or a bug). The process must exit then.
    pub async fn failure(&self) -> String {
        let mut failure = self.inner.failure.clone();
        loop {
            if let Some(reason) = failure.borrow_and_update().clone() {
                return reason;
            }
            if failure.changed().await.is_err() {
                // Stopped in an orderly way.
                std::future::pending::<()>().await;
            }
        }
    }

    /// The room on the disk of the log. Refuse new work before it is full.
    ///
    /// # Errors
    /// [`RaftError::Unavailable`] when the file system does not tell.
    pub fn space(&self) -> Result<Space, RaftError> {
        self.inner.log.space().map_err(|error| RaftError::Unavailable { reason: error.to_string() })
    }

    /// Figures about the log.
    #[must_use]
    pub fn log_stats(&self) -> coracle_wal::Stats {
        self.inner.log.stats()
    }

    /// Begins a new cluster with this manager as its only voter. Once, on one manager. `Ok(false)` when it has begun
    /// already.
    ///
    /// # Errors
    /// [`RaftError::OutcomeUnknown`] when Raft failed.
    pub async fn initialize(&self, address: &str) -> Result<bool, RaftError> {
        let members = BTreeMap::from([(self.raft_id(), Member { address: address.to_owned() })]);
        match self.inner.raft.initialize(members).await {
            Ok(()) => Ok(true),
            Err(OpenraftError::APIError(InitializeError::NotAllowed(_))) => Ok(false),
            Err(OpenraftError::APIError(error)) => Err(RaftError::Refused { reason: error.to_string() }),
            Err(OpenraftError::Fatal(fatal)) => Err(RaftError::OutcomeUnknown { reason: fatal.to_string() }),
        }
    }

    /// Asks for a snapshot now.
    ///
    /// # Errors
    /// [`RaftError::Unavailable`] when Raft stopped.
    pub async fn trigger_snapshot(&self) -> Result<(), RaftError> {
        let stopped = |fatal: openraft::error::Fatal<TypeConfig<P>>| RaftError::Unavailable {
            reason: fatal.to_string(),
        };
        self.inner.raft.trigger().snapshot().await.map_err(stopped)
    }

    /// Stops taking part and makes everything durable. Hand leadership over before.
    pub async fn shutdown(&self) {
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::error!(%error, "Raft did not stop in an orderly way");
        }
        let log = self.inner.log.clone();
        if P::blocking(move || log.close()).await.is_err() {
            tracing::error!("closing the Raft log panicked");
        }
    }
}

/// Opens log and snapshots in the directory of this manager.
fn open(config: &RaftConfig, ring: &KeyRing, identity: &Identity) -> Result<Files, RaftStartError> {
    let directory = &config.directory;
    let root = DiskStorage::unlocked(directory).map_err(|source| RaftStartError::File {
        operation: "opening directory",
        path: directory.clone(),
        source,
    })?;
    Files::open(&root, ring, identity, &config.log)
}

/// While leading, completes membership changes that an earlier leader left half done.
async fn complete_changes<P: Platform>(inner: std::sync::Weak<Inner<P>>) {
    let Some((metrics, mut server)) =
        inner.upgrade().map(|inner| (inner.raft.metrics(), inner.raft.server_metrics()))
    else {
        return;
    };
    loop {
        loop {
            // These change with leader and membership, and not with every entry, as the whole of the metrics do.
            drop(server.borrow_and_update());
            let status = RaftStatus::from_metrics(&metrics.borrow_watched());
            if status.is_leader() && status.members.changing_to.is_some() {
                break;
            }
            if server.changed().await.is_err() {
                return;
            }
        }
        let Some(inner) = inner.upgrade() else { return };
        if let Err(error) = (RaftNode { inner }).complete_change(COMPLETE_CHANGE).await {
            tracing::warn!(%error, "could not complete the membership change; trying again");
        }
        P::Runtime::sleep(Duration::from_secs(1)).await;
    }
}

/// Spawns a task that ends with the node.
fn spawn<P: Platform>(background: &mut Vec<AbortHandle>, task: impl Future<Output = ()> + Send + 'static) {
    let (task, handle) = futures::future::abortable(task);
    background.push(handle);
    // Detached: nobody waits for it.
    drop(P::Runtime::spawn(task));
}
