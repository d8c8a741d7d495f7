//! This node: a member of a swarm or not. The steps between the two are in [`steps`].

mod directories;
mod steps;

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwapOption;
use coracle_daemon::Shutdown;
use coracle_image::ImageStore;
use coracle_manager::manager::Start;
use coracle_model::node::NodeDescription;
use coracle_model::role::Role;
use coracle_proto::v1;
use coracle_seal::KeyRing;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::{error, warn};

use super::active::Active;
use super::state_file::MembershipFile;
use super::{DaemonArgs, addresses, facts};
use directories::{lock, private_directory};

/// This node.
pub(super) struct Node {
    args: DaemonArgs,
    shutdown: Shutdown,
    keys: Arc<KeyRing>,
    images: Arc<ImageStore>,
    description: NodeDescription,
    file: MembershipFile,
    active: ArcSwapOption<Active>,
    /// Whether it goes on where an earlier daemon ended, if it was part of a swarm then.
    resumed: watch::Sender<bool>,
    /// Init, join and leave one after another.
    turn: tokio::sync::Mutex<()>,
    failure: Mutex<Option<anyhow::Error>>,
    /// Held as long as the process lives: one daemon per data and run directory.
    _locks: [File; 2],
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("args", &self.args).finish_non_exhaustive()
    }
}

impl Node {
    /// Opens the node's directories.
    ///
    /// # Errors
    /// If another daemon uses them, or the disk refuses.
    pub(super) async fn open(mut args: DaemonArgs, shutdown: Shutdown) -> anyhow::Result<Arc<Self>> {
        args.data_dir = private_directory(&args.data_dir)?;
        args.run_dir = private_directory(&args.run_dir)?;
        let locks = [lock(&args.data_dir, "--data-dir")?, lock(&args.run_dir, "--run-dir")?];
        let node_directory = private_directory(&args.data_dir.join("node"))?;
        let keys = Arc::new(KeyRing::open_or_create(&node_directory).context("opening the key ring")?);
        let images_directory = args.data_dir.join("images");
        let images = tokio::task::spawn_blocking(move || ImageStore::open(images_directory)).await?;
        let images = Arc::new(images.context("opening the image store")?);
        Ok(Arc::new(Self {
            description: facts::describe(&args)?,
            file: MembershipFile::new(&node_directory),
            active: ArcSwapOption::empty(),
            resumed: watch::Sender::new(false),
            turn: tokio::sync::Mutex::default(),
            failure: Mutex::default(),
            _locks: locks,
            args,
            shutdown,
            keys,
            images,
        }))
    }

    pub(super) fn run_dir(&self) -> &Path {
        &self.args.run_dir
    }

    pub(super) const fn args(&self) -> &DaemonArgs {
        &self.args
    }

    pub(super) const fn keys(&self) -> &Arc<KeyRing> {
        &self.keys
    }

    pub(super) const fn images(&self) -> &Arc<ImageStore> {
        &self.images
    }

    pub(super) const fn description(&self) -> &NodeDescription {
        &self.description
    }

    pub(super) const fn file(&self) -> &MembershipFile {
        &self.file
    }

    /// The node's part in a swarm, while it has one.
    pub(super) fn active(&self) -> Option<Arc<Active>> {
        self.active.load_full()
    }

    /// Whether this node runs a manager.
    pub(super) fn is_manager(&self) -> bool {
        self.active().is_some_and(|active| active.manager().is_some())
    }

    /// Ends the process because a part of it cannot go on.
    pub(super) fn fail(&self, why: anyhow::Error) {
        error!("{why:#}: ending the daemon; containers keep running");
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.shutdown.trigger();
    }

    /// Why the process ends, if something failed.
    pub(super) fn failure(&self) -> Option<anyhow::Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Goes on where an earlier daemon ended.
    ///
    /// # Errors
    /// If the node is a member and cannot take its part.
    pub(super) async fn resume(self: &Arc<Self>) -> anyhow::Result<()> {
        self.take_part_again().await?;
        self.resumed.send_replace(true);
        Ok(())
    }

    /// Waits until it is known whether this node is part of a swarm, for so long at most; says whether that is known.
    pub(super) async fn is_resumed(&self, limit: Duration) -> bool {
        let mut resumed = self.resumed.subscribe();
        let known = tokio::time::timeout(limit, resumed.wait_for(|resumed| *resumed)).await;
        matches!(known, Ok(Ok(_)))
    }

    async fn take_part_again(self: &Arc<Self>) -> anyhow::Result<()> {
        let _turn = self.turn.lock().await;
        let Some(mut membership) = self.file.read(&self.keys)? else { return Ok(()) };
        if addresses::on_start(&mut membership, &self.args)? {
            self.file.write(&self.keys, &membership)?;
        }
        let listener = bind(membership.listen).await?;
        let start = Start::Member { managers: membership.managers.clone() };
        let active = Active::start(self, membership, listener, start, true).await?;
        self.active.store(Some(active));
        Ok(())
    }

    /// Stops the node's part; containers keep running.
    pub(super) async fn stop(&self) {
        let _turn = self.turn.lock().await;
        if let Some(active) = self.active.swap(None) {
            active.stop().await;
        }
    }

    /// What this node is, for `coracle system info`.
    pub(super) async fn info(&self) -> v1::InfoResponse {
        let facts = tokio::task::spawn_blocking(coracle_agent_runtime::check).await;
        let facts = facts.map_err(|error| warn!(%error, "the machine could not be looked at")).ok();
        let mut info = v1::InfoResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: "inactive".to_owned(),
            hostname: self.description.hostname.clone(),
            platform: Some((&self.description.platform).into()),
            resources: Some((&self.description.resources).into()),
            data_directory: self.args.data_dir.display().to_string(),
            run_directory: self.args.run_dir.display().to_string(),
            kernel: facts::kernel(),
            ..v1::InfoResponse::default()
        };
        if let Some(facts) = facts {
            info.cgroup_version = facts.cgroup_version.map(|version| version.to_string()).unwrap_or_default();
            info.warnings = facts.problems;
        }
        if let Some(active) = self.active() {
            active.describe(&mut info);
        }
        info
    }
}

async fn bind(address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("listen-addr: invalid value \"{address}\": cannot listen there"))
}

/// Whether a role runs a manager.
pub(super) const fn runs_manager(role: Role) -> bool {
    matches!(role, Role::Manager)
}
