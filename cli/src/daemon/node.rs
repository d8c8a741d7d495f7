//! This node: a member of a swarm or not, and the steps between the two.

use std::fs::File;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use arc_swap::ArcSwapOption;
use coracle_daemon::Shutdown;
use coracle_image::ImageStore;
use coracle_manager::manager::Start;
use coracle_model::node::{Availability, NodeDescription};
use coracle_model::role::Role;
use coracle_pki::JoinToken;
use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1;
use coracle_seal::KeyRing;
use coracle_worker::identity::{IdentityError, Joiner};
use rustix::fs::{FlockOperation, flock};
use tokio::net::TcpListener;
use tracing::{error, info, warn};

use super::active::Active;
use super::bootstrap::{NewCluster, new_cluster};
use super::state_file::{Membership, MembershipFile};
use super::{DaemonArgs, address, addresses, facts};

/// Longest time that tasks get to stop when a node leaves.
const LEAVE_DEADLINE: Duration = Duration::from_secs(60);

/// This node.
pub(super) struct Node {
    args: DaemonArgs,
    shutdown: Shutdown,
    keys: Arc<KeyRing>,
    images: Arc<ImageStore>,
    description: NodeDescription,
    file: MembershipFile,
    active: ArcSwapOption<Active>,
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

    /// Makes a swarm of this node alone, for a laptop.
    ///
    /// # Errors
    /// As [`Node::init`].
    pub(super) async fn init_dev(self: &Arc<Self>) -> anyhow::Result<()> {
        if self.active().is_some() {
            return Ok(());
        }
        let here = format!("127.0.0.1:{}", address::DEFAULT_PORT);
        self.init(&here, &here, Availability::Active).await?;
        info!("made a swarm of this node for development");
        Ok(())
    }

    fn refuse_if_member(&self) -> anyhow::Result<()> {
        let Some(active) = self.active() else { return Ok(()) };
        let message = format!("this node is part of the swarm {} already", active.identity().cluster());
        Err(ApiError::new(Reason::Exists, message)
            .with_hint("leave it first with `coracle swarm leave`")
            .into())
    }

    /// Makes a new swarm with this node as its manager.
    ///
    /// # Errors
    /// If the node is in a swarm already, an address cannot be used, or the disk refuses. Nothing is left behind.
    pub(super) async fn init(
        self: &Arc<Self>,
        advertise: &str,
        listen: &str,
        availability: Availability,
    ) -> anyhow::Result<v1::InitResponse> {
        let _turn = self.turn.lock().await;
        self.refuse_if_member()?;
        let known = address::usable()?;
        let listen = address::listen(listen, &known)?;
        let chosen = advertise;
        let advertise = address::advertise(chosen, listen, &known)?;
        let warnings = warned(advertise)?;
        let listener = bind(listen).await?;
        let NewCluster { cluster, node, identity, worker_token, manager_token } =
            self.new_cluster(advertise, availability)?;
        let (node_id, cluster_id) = (node.id, cluster.id);
        let (managers, chosen) = (vec![advertise.to_string()], chosen.to_owned());
        let membership = Membership { identity, listen, advertise, managers, chosen };
        coracle_crash_point::crash_point!("init.before-forget");
        self.forget()?;
        let start = Start::Bootstrap { cluster: Box::new(cluster), node: Box::new(node) };
        let active = self.begin(membership, listener, start).await?;
        self.active.store(Some(active));
        info!(cluster = %cluster_id, node = %node_id, address = %advertise, "made a swarm");
        Ok(v1::InitResponse {
            node_id: node_id.to_string(),
            cluster_id: cluster_id.to_string(),
            address: advertise.to_string(),
            worker_token: worker_token.expose().to_string(),
            manager_token: manager_token.expose().to_string(),
            warnings,
        })
    }

    fn new_cluster(
        &self,
        advertise: std::net::SocketAddr,
        availability: Availability,
    ) -> anyhow::Result<NewCluster> {
        let life = self.args.certificate_seconds.map(Duration::from_secs);
        new_cluster(self.description.clone(), advertise, availability, life, coracle_manager::store::now())
    }

    /// Joins a swarm.
    ///
    /// # Errors
    /// If the node is in a swarm already, the manager cannot be reached, is of another swarm than the token, or refuses it. Nothing is
    /// left behind.
    pub(super) async fn join(self: &Arc<Self>, request: v1::JoinRequest) -> anyhow::Result<v1::JoinResponse> {
        let _turn = self.turn.lock().await;
        self.refuse_if_member()?;
        let known = address::usable()?;
        let listen = address::listen(&request.listen_address, &known)?;
        let advertise = address::advertise(&request.advertise_address, listen, &known)?;
        let warnings = warned(advertise)?;
        let listener = bind(listen).await?;
        let availability = Availability::from(request.availability());
        let token = JoinToken::parse(&request.token).context("token")?;
        let remote = remote(&request.remote)?;
        let joiner =
            Joiner { description: self.description.clone(), address: advertise.to_string(), availability };
        coracle_crash_point::crash_point!("join.before-certificate");
        let (identity, mut managers) = coracle_worker::identity::join(&remote, &token, &joiner)
            .await
            .map_err(|error| join_error(&error, &remote))?;
        coracle_crash_point::crash_point!("join.after-certificate");
        let (node, cluster, role) = (identity.node(), identity.cluster(), identity.role());
        let node = node.context("the certificate is not a node's")?;
        if managers.is_empty() {
            managers.push(remote);
        }
        self.forget()?;
        let start = Start::Member { managers: managers.clone() };
        let membership =
            Membership { identity, listen, advertise, managers, chosen: request.advertise_address };
        let active = self.begin(membership, listener, start).await?;
        self.active.store(Some(active));
        info!(%cluster, %node, %role, address = %advertise, "joined a swarm");
        Ok(v1::JoinResponse {
            node_id: node.to_string(),
            cluster_id: cluster.to_string(),
            role: v1::NodeRole::from(role).into(),
            warnings,
        })
    }

    /// Starts the node's part and writes the membership: last, so that a start that fails leaves no member behind.
    async fn begin(
        self: &Arc<Self>,
        membership: Membership,
        listener: TcpListener,
        start: Start,
    ) -> anyhow::Result<Arc<Active>> {
        let content = self.file.encode(&membership)?;
        match Active::start(self, membership, listener, start, false).await {
            Ok(active) => match self.file.store(&self.keys, &content) {
                Ok(()) => {
                    active.written();
                    Ok(active)
                }
                Err(error) => {
                    active.stop().await;
                    self.forget()?;
                    Err(error)
                }
            },
            Err(error) => {
                self.forget()?;
                Err(error)
            }
        }
    }

    /// Leaves the swarm: stops tasks, gives up the place in Raft, and deletes what the node knew of the swarm.
    ///
    /// # Errors
    /// If the node is in no swarm, or is a manager and `force` is not given.
    pub(super) async fn leave(&self, force: bool) -> anyhow::Result<()> {
        let _turn = self.turn.lock().await;
        let Some(active) = self.active() else {
            return Err(ApiError::new(Reason::NotFound, "this node is not part of a swarm").into());
        };
        if let Some(manager) = active.manager() {
            leave_raft(&manager, &active, force).await?;
        }
        info!("leaving the swarm");
        coracle_crash_point::crash_point!("leave.before-stop");
        active.agent().stop_all_tasks(LEAVE_DEADLINE).await;
        active.agent().remove_images().await;
        active.stop().await;
        self.active.store(None);
        coracle_crash_point::crash_point!("leave.after-tasks");
        self.file.remove()?;
        coracle_crash_point::crash_point!("leave.after-membership");
        self.forget()
    }

    /// Deletes what belongs to a membership, except the images, which only an agent can tell from those in use.
    fn forget(&self) -> anyhow::Result<()> {
        for name in ["raft", "agent"] {
            let path = self.args.data_dir.join(name);
            match std::fs::remove_dir_all(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("removing {}", path.display()));
                }
                _ => {}
            }
            coracle_crash_point::crash_point!("leave.after-raft");
        }
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

/// What the operator is told of the address, in the log too.
fn warned(advertise: std::net::SocketAddr) -> anyhow::Result<Vec<String>> {
    let warnings = address::warnings(advertise)?;
    warnings.iter().for_each(|warning| warn!("{warning}"));
    Ok(warnings)
}

/// The manager to join through; the port may be left out.
fn remote(text: &str) -> anyhow::Result<String> {
    if text.parse::<std::net::SocketAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    match text.parse::<std::net::IpAddr>() {
        Ok(ip) => Ok(std::net::SocketAddr::new(ip, address::DEFAULT_PORT).to_string()),
        Err(_) => bail!("manager: invalid value {text:?}: use IP:PORT of a manager"),
    }
}

fn join_error(error: &IdentityError, remote: &str) -> ApiError {
    let text = format!("cannot join through {remote}: {}", coracle_daemon::ErrorChain(error));
    match error {
        IdentityError::Refused { status, .. } => {
            let refused = ApiError::from_status(status);
            ApiError { message: format!("manager {remote} refuses: {}", refused.message), ..refused }
        }
        IdentityError::Connect(_) | IdentityError::Silent { .. } => ApiError::new(Reason::Unavailable, text)
            .with_hint("check the address, that the manager runs, and that its port is open"),
        IdentityError::Token { .. } => ApiError::new(Reason::Unauthenticated, text).with_hint(
            "the token was not sent; get the present one with `coracle swarm join-token worker` on a manager",
        ),
        _ => ApiError::new(Reason::Internal, text),
    }
}

async fn leave_raft(
    manager: &coracle_manager::manager::Manager,
    active: &Active,
    force: bool,
) -> anyhow::Result<()> {
    let voters = manager.status().members.voters.len();
    if !force {
        let message = if voters <= 1 {
            "this node is the last manager: leaving ends the swarm and loses its state".to_owned()
        } else {
            format!("this node is one of {voters} managers")
        };
        let hint = if voters <= 1 {
            "use --force if that is what you want".to_owned()
        } else {
            format!(
                "demote it first with `coracle node demote {}`, or use --force",
                active.identity().node_text()
            )
        };
        return Err(ApiError::new(Reason::Forbidden, message).with_hint(hint).into());
    }
    if let Err(error) = manager.leave(true).await {
        warn!(%error, "the other managers were not told");
    }
    Ok(())
}

/// Makes a directory that only root enters; gives its absolute path.
fn private_directory(path: &Path) -> anyhow::Result<PathBuf> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("making {}", path.display()))?;
    let path = path.canonicalize().with_context(|| format!("finding {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700))
        .with_context(|| format!("closing {} to others", path.display()))?;
    Ok(path)
}

fn lock(directory: &Path, flag: &str) -> anyhow::Result<File> {
    let path = directory.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("opening {}", path.display()))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        bail!("another coracle daemon uses {}; stop it first, or give another {flag}", directory.display());
    }
    Ok(file)
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
