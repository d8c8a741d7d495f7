//! A node's part in a swarm: its listener, its agent, and its manager while its certificate says so.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwapOption;
use coracle_agent_runtime::{Runtime, RuntimeConfig};
use coracle_daemon::SystemClock;
use coracle_manager::manager::{ImagesChanged, Manager, ManagerConfig, Start};
use coracle_manager::raft::Timing;
use coracle_model::role::Role;
use coracle_pki::tls::{self, SwappableIdentity};
use coracle_pki::{CertificateDer, NodeIdentity, PeerIdentity};
use coracle_proto::v1;
use coracle_worker::adapters::runtime::RuntimeContainers;
use coracle_worker::identity::{KeepIdentity, keep_renewed};
use coracle_worker::transfer::serve::ImageTransferService;
use coracle_worker::{Agent, AgentConfig, AgentHandle};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::addresses::{Addresses, Keeper};
use super::edge;
use super::node::{Node, runs_manager};
use super::state_file::Membership;

/// Wait before a renewal or a start of the manager that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// A node's part in a swarm.
pub(super) struct Active {
    identity: SwappableIdentity,
    addresses: Arc<Addresses>,
    agent: AgentHandle,
    transfer: ImageTransferService,
    manager: ArcSwapOption<Running>,
    /// A manager's Raft id was retired.
    retired: Arc<Notify>,
    stop: CancellationToken,
    tasks: TaskTracker,
    /// What starts and stops the manager: ends first.
    role_stop: CancellationToken,
    role_tasks: TaskTracker,
    /// What is to follow this machine's addresses once the membership is written.
    follower: Mutex<Option<Keeper>>,
}

/// What the node does for its identity.
struct Keeping {
    keeper: Keeper,
    agent: AgentHandle,
    active: Weak<Active>,
}

#[tonic::async_trait]
impl KeepIdentity for Keeping {
    async fn keep(&self, identity: &NodeIdentity) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        coracle_crash_point::crash_point!("identity.renewed");
        self.keeper.write(identity).await
    }

    fn certify_self(
        &self,
        present: &PeerIdentity,
        csr: &[u8],
    ) -> Result<Option<CertificateDer<'static>>, Box<dyn std::error::Error + Send + Sync>> {
        let Some(manager) = self.active.upgrade().and_then(|active| active.manager()) else {
            return Ok(None);
        };
        Ok(manager.certify_self(present, csr)?)
    }

    async fn removed(&self) {
        self.agent.removed().await;
    }
}

/// Opens the runtime and the agent's journal, both of which block.
async fn build_agent(
    node: &Arc<Node>,
    identity: &SwappableIdentity,
    advertise: watch::Receiver<String>,
    managers: Vec<String>,
) -> anyhow::Result<Agent> {
    let (node, identity) = (Arc::clone(node), identity.clone());
    let build = move || {
        let args = node.args();
        let mut config = RuntimeConfig::new(
            args.data_dir.join("containers"),
            args.run_dir.join("containers"),
            args.cgroup_parent.clone(),
        );
        config.cdi_folders.clone_from(&args.cdi_folders);
        let runtime = Arc::new(Runtime::open(config).context("opening the container runtime")?);
        let config = AgentConfig {
            data_dir: args.data_dir.clone(),
            run_dir: args.run_dir.clone(),
            identity,
            keyring: Arc::clone(node.keys()),
            images: Arc::clone(node.images()),
            containers: Arc::new(RuntimeContainers::new(runtime)),
            advertise_address: advertise,
            managers,
            description: node.description().clone(),
            clock: Arc::new(SystemClock::default()),
            selinux_enabled: args.selinux_enabled,
            image_grace: args.image_grace,
        };
        Agent::build(config).context("starting the agent")
    };
    tokio::task::spawn_blocking(build).await.context("starting the agent")?
}

/// Deletes a manager's part of Raft.
fn forget_raft(node: &Node) -> anyhow::Result<()> {
    let directory = node.args().data_dir.join("raft");
    match std::fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", directory.display()))
        }
        _ => Ok(()),
    }
}

/// A manager that runs, and what ends it.
struct Running {
    manager: Arc<Manager>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Who this node is at present.
pub(super) struct Who(Arc<tls::IdentitySnapshot>);

impl Who {
    pub(super) fn cluster(&self) -> String {
        self.0.identity().cluster().to_string()
    }

    pub(super) fn node_text(&self) -> String {
        self.0.identity().node().map(|node| node.to_string()).unwrap_or_default()
    }

    fn role(&self) -> Role {
        self.0.identity().role()
    }
}

impl Active {
    /// Starts everything.
    ///
    /// # Errors
    /// If the log of a manager cannot be read, the agent cannot open its directories, or a new manager is given no place.
    pub(super) async fn start(
        node: &Arc<Node>,
        membership: Membership,
        listener: TcpListener,
        start: Start,
        resuming: bool,
    ) -> anyhow::Result<Arc<Self>> {
        let Membership { identity, listen, advertise, managers, chosen } = membership;
        let addresses =
            Arc::new(Addresses { listen, chosen, advertise: watch::Sender::new(advertise.to_string()) });
        let role = identity.role();
        let identity = SwappableIdentity::new(identity).context("using this node's identity")?;
        let server = tls::server_config(&identity).context("preparing the listener")?;
        let agent = build_agent(node, &identity, addresses.advertise.subscribe(), managers).await?;
        let active = Arc::new(Self {
            identity,
            addresses,
            agent: agent.handle(),
            transfer: agent.handle().image_transfer(),
            manager: ArcSwapOption::empty(),
            retired: Arc::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            role_stop: CancellationToken::new(),
            role_tasks: TaskTracker::new(),
            follower: Mutex::default(),
        });
        // Before the listener: whoever calls finds everything there. A new manager needs the listener to get its place, which it
        // asks for only once it runs.
        // One that has no place yet waits for the agent when it resumes: nobody may be there to give it one, or it may have been
        // asked to be a worker meanwhile.
        let directory = node.args().data_dir.join("raft");
        if runs_manager(role) && (!resuming || Manager::is_known(&directory)) {
            active.start_manager(node, start).await?;
        }
        active.tasks.spawn(coracle_rpc::serve::serve_tls(
            listener,
            Arc::new(server),
            edge::service(Arc::clone(node)),
            active.stop.clone(),
        ));
        active.tasks.spawn(agent.run(active.stop.clone()));
        let keeper = Keeper {
            node: Arc::clone(node),
            addresses: Arc::clone(&active.addresses),
            managers: active.agent.managers(),
            turn: Arc::default(),
        };
        let (roles, role_changes) = watch::channel(role);
        active.identity.watch(move |identity| {
            // Nobody listening any more is no error: then the node stops.
            let _ = roles.send(identity.identity().role());
        });
        active.tasks.spawn(keep_renewed(
            active.identity.clone(),
            active.agent.managers(),
            active.agent.node_updates(),
            Arc::new(Keeping {
                keeper: keeper.clone(),
                agent: active.agent.clone(),
                active: Arc::downgrade(&active),
            }),
            Arc::new(SystemClock::default()),
            active.stop.clone(),
        ));
        // A new member is written down by whoever made it one, when everything has started.
        if resuming {
            active.tasks.spawn(keeper.follow(active.identity.clone(), active.stop.clone()));
        } else {
            *active.follower.lock().unwrap_or_else(PoisonError::into_inner) = Some(keeper);
        }
        active.role_tasks.spawn(Arc::clone(&active).follow_role(Arc::clone(node), role_changes));
        active.role_tasks.close();
        Ok(active)
    }

    /// To be called once the membership of a new member is written: from then on what changes of it is written, too.
    pub(super) fn written(&self) {
        let keeper = self.follower.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(keeper) = keeper {
            self.tasks.spawn(keeper.follow(self.identity.clone(), self.stop.clone()));
        }
    }

    pub(super) fn identity(&self) -> Who {
        Who(self.identity.current())
    }

    pub(super) const fn agent(&self) -> &AgentHandle {
        &self.agent
    }

    pub(super) fn transfer(&self) -> ImageTransferService {
        self.transfer.clone()
    }

    pub(super) fn manager(&self) -> Option<Arc<Manager>> {
        self.manager.load().as_ref().map(|running| Arc::clone(&running.manager))
    }

    /// Stops everything; containers keep running.
    pub(super) async fn stop(&self) {
        self.stop_managing().await;
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Stops the manager, if there is one, for good: first whatever could start one again, then the manager, which hands leadership
    /// over while the listener still answers.
    pub(super) async fn stop_managing(&self) {
        self.role_stop.cancel();
        self.role_tasks.close();
        self.role_tasks.wait().await;
        self.stop_manager().await;
    }

    async fn start_manager(&self, node: &Arc<Node>, start: Start) -> anyhow::Result<()> {
        let config = ManagerConfig {
            directory: node.args().data_dir.join("raft"),
            identity: self.identity.clone(),
            keyring: Arc::clone(node.keys()),
            images: Arc::clone(node.images()),
            images_changed: ImagesChanged(Arc::new({
                let agent = self.agent.clone();
                move || agent.images_changed()
            })),
            address: self.addresses.advertise.subscribe(),
            timing: Timing::default(),
            small_log: node.args().small_log,
            disk_reserve: node.args().disk_reserve,
            hold: node.args().hold_seconds.map(Duration::from_secs),
        };
        let manager = Arc::new(Manager::start(config, start).await.context("starting the manager")?);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (runs, token) = (Arc::clone(&manager), stop.clone());
        tasks.spawn(async move { runs.run(token).await });
        let (watched, failing, token) = (Arc::clone(&manager), Arc::clone(node), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = token.cancelled() => {}
                why = watched.store().raft().failure() => failing.fail(anyhow::anyhow!("raft failed: {why}")),
            }
        });
        let (watched, retired, token) = (Arc::clone(&manager), Arc::clone(&self.retired), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = token.cancelled() => {}
                () = watched.retired() => retired.notify_one(),
            }
        });
        tasks.close();
        self.manager.store(Some(Arc::new(Running { manager, stop, tasks })));
        info!("this node is a manager");
        Ok(())
    }

    async fn stop_manager(&self) {
        if let Some(running) = self.manager.load_full() {
            running.stop.cancel();
            running.tasks.wait().await;
            self.manager.store(None);
        }
    }

    /// Starts or stops the manager when this node's certificate changes its role.
    async fn follow_role(self: Arc<Self>, node: Arc<Node>, mut roles: watch::Receiver<Role>) {
        loop {
            let role = *roles.borrow_and_update();
            let settled = self.become_role(&node, role).await;
            if let Err(error) = &settled {
                warn!("becoming a {role}: {error:#}; trying again");
            }
            tokio::select! {
                () = self.role_stop.cancelled() => return,
                () = self.retired.notified() => {
                    self.stop_manager().await;
                    if let Err(error) = forget_raft(&node) {
                        warn!("{error:#}");
                    }
                }
                changed = roles.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(RETRY), if settled.is_err() => {}
            }
        }
    }

    async fn become_role(&self, node: &Arc<Node>, role: Role) -> anyhow::Result<()> {
        match (runs_manager(role), self.manager().is_some()) {
            (true, false) => {
                let managers = self.agent.managers().borrow().clone();
                self.start_manager(node, Start::Member { managers }).await
            }
            (false, running) => {
                if running {
                    self.stop_manager().await;
                    info!("this node is no longer a manager");
                }
                // Also what an earlier daemon left when it ended in between: a retired id is never used again.
                forget_raft(node)
            }
            (true, true) => Ok(()),
        }
    }

    /// Fills in what `coracle system info` shows of a member.
    pub(super) fn describe(&self, info: &mut v1::InfoResponse) {
        let who = self.identity();
        let status = self.agent.status();
        info.state = "active".to_owned();
        info.node_id = who.node_text();
        info.cluster_id = who.cluster();
        info.role = v1::NodeRole::from(who.role()).into();
        info.address = self.addresses.advertise.borrow().clone();
        info.certificate_expires_at = who.0.identity().peer().not_after().as_secs() * 1_000_000_000;
        info.containers_running = status.containers_running;
        info.managers = status.managers;
        info.session_with = status.session_with.unwrap_or_default();
        info.raft = self.manager().map(|manager| {
            info.warnings.extend(manager.warnings());
            let raft = manager.status();
            v1::RaftInfo {
                raft_id: raft.raft_id,
                term: raft.term,
                leader_raft_id: raft.leader.as_ref().map(|leader| leader.raft_id).unwrap_or_default(),
                leader_address: raft.leader.as_ref().map(|leader| leader.address.clone()).unwrap_or_default(),
                last_applied: raft.applied.unwrap_or_default(),
                voters: u32::try_from(raft.members.voters.len()).unwrap_or(u32::MAX),
                is_leader: raft.is_leader(),
            }
        });
    }
}
