//! The assembly of a manager: Raft, the state, the leader's work, and the services that the node's listener serves. How it gets and
//! keeps its place among the others is in [`place`].

mod place;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use coracle_image::ImageStore;
use coracle_manager_core::Change;
use coracle_manager_core::session::Holds;
use coracle_model::cluster::Cluster;
use coracle_model::id::NodeId;
use coracle_model::node::Node;
use coracle_pki::tls::SwappableIdentity;
use coracle_pki::{CertificateDer, PeerIdentity};
use coracle_proto::access;
use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1;
use coracle_proto::v1::membership_client::MembershipClient;
use coracle_rpc::caller::{Caller, PassedOnBy};
use coracle_seal::{KeyRing, read_sealed_file, write_sealed_file};
use http::{Request, Response};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower::ServiceExt;
use tracing::{info, warn};

use crate::api::file::FilesApi;
use crate::api::image::ImagesApi;
use crate::api::node::NodesApi;
use crate::api::service::ServicesApi;
use crate::api::swarm::SwarmApi;
use crate::api::task::TasksApi;
use crate::api::volume::VolumesApi;
use crate::ca::CaApi;
use crate::dispatcher::Dispatcher;
use crate::dispatcher::service::DispatcherApi;
use crate::leader::{self, Leading};
use crate::membership::MembershipApi;
use crate::raft::{RaftConfig, RaftNode, RaftStatus, Timing};
use crate::reconcile::LoopTable;
use crate::reserve::Reserve;
use crate::rpc::forward::{self, Destination};
use crate::rpc::member;
use crate::rpc::peers::Peers;
use crate::rpc::recheck;
use crate::store::{Replicated, Store, Write, now};

/// Bytes of one message at most: a service's specification, a batch of reports.
const MESSAGE_LIMIT: usize = 4 << 20;
/// The same of a machine that joins.
const STRANGERS_MESSAGE_LIMIT: usize = 64 << 10;
/// How long handing leadership over may take.
const HAND_OVER: Duration = Duration::from_secs(5);
/// How often to look at the room on the disk.
const ROOM_PERIOD: Duration = Duration::from_secs(1);
/// The Raft id of a cluster's first manager.
const FIRST_RAFT_ID: u64 = 1;

/// Whom to tell that this node holds other images than before.
#[derive(Clone)]
pub struct ImagesChanged(pub Arc<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for ImagesChanged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ImagesChanged")
    }
}

/// What a manager is made of.
#[derive(Debug, Clone)]
pub struct ManagerConfig {
    /// Where the log and snapshots are.
    pub directory: PathBuf,
    /// Who this node is.
    pub identity: SwappableIdentity,
    /// Seals everything stored.
    pub keyring: Arc<KeyRing>,
    /// Images of this node.
    pub images: Arc<ImageStore>,
    /// Told when images were added to them.
    pub images_changed: ImagesChanged,
    /// `IP:PORT` at which the others reach this node, which may change.
    pub address: watch::Receiver<String>,
    /// Timings of Raft.
    pub timing: Timing,
    /// Snapshots after a few writes, for tests.
    pub small_log: bool,
    /// Bytes of the disk kept back for the cluster's own writes; nothing for what suits the disk.
    pub disk_reserve: Option<u64>,
    /// How long evictions are held back when most nodes vanish and this leader is not cut off; nothing for the usual time.
    pub hold: Option<Duration>,
}

/// How a manager begins.
#[derive(Debug)]
pub enum Start {
    /// As the first of a new cluster.
    Bootstrap {
        /// The cluster.
        cluster: Box<Cluster>,
        /// This node.
        node: Box<Node>,
    },
    /// As one more of a cluster, or again after a restart; asks these for its place if it has none yet.
    Member {
        /// `IP:PORT` of managers.
        managers: Vec<String>,
    },
}

/// A running manager.
#[derive(Debug)]
pub struct Manager {
    own: NodeId,
    raft_id: u64,
    store: Store,
    peers: Peers,
    routes: Routes,
    leading: Leading,
    address: watch::Receiver<String>,
    managers: Vec<String>,
    retired: Notify,
}

impl Manager {
    /// Starts Raft and everything on it.
    ///
    /// # Errors
    /// If the log cannot be read, or if no manager gives this one an id.
    pub async fn start(config: ManagerConfig, start: Start) -> Result<Self, ApiError> {
        let own = config.identity.current().identity().node();
        let own = own.ok_or_else(|| ApiError::new(Reason::Internal, "the identity is not a node's"))?;
        let peers = Peers::new(config.identity.clone());
        let managers = match &start {
            Start::Bootstrap { .. } => Vec::new(),
            Start::Member { managers } => managers.clone(),
        };
        let raft_id = match &start {
            Start::Bootstrap { .. } => remember_raft_id(&config, FIRST_RAFT_ID)?,
            Start::Member { managers } => match known_raft_id(&config)? {
                Some(raft_id) => raft_id,
                None => {
                    let address = config.address.borrow().clone();
                    let raft_id = place::reserve(&peers, managers, &address).await?;
                    coracle_crash_point::crash_point!("manager.id-reserved");
                    remember_raft_id(&config, raft_id)?
                }
            },
        };
        let replicated = Arc::new(Replicated::default());
        let cluster = config.identity.current().identity().cluster().to_string();
        let raft = RaftNode::start(
            RaftConfig {
                timing: config.timing,
                ..RaftConfig::new(cluster, raft_id, &config.directory).with_small_log(config.small_log)
            },
            &config.keyring,
            Arc::clone(&replicated) as Arc<_>,
            Arc::new(peers.clone()),
        )
        .await
        .map_err(|error| ApiError::new(Reason::Internal, format!("raft cannot start: {}", chain(&error))))?;
        peers.book().follow(raft.status());
        let store = Store::new(
            raft.clone(),
            replicated,
            Reserve { directory: config.directory.clone(), bytes: config.disk_reserve },
        );
        if let Start::Bootstrap { cluster, node } = start {
            let address = config.address.borrow().clone();
            bootstrap(&store, *cluster, *node, &address).await?;
        }
        let holds = config.hold.map(Holds::with_short).unwrap_or_default();
        let dispatcher = Arc::new(Dispatcher::new(store.clone(), holds));
        let loops = LoopTable::default();
        let membership = MembershipApi::new(store.clone(), Arc::clone(&dispatcher), peers.book().clone());
        let routes = routes(&config, own, &store, &dispatcher, &loops, &peers, membership.clone());
        let leading = Leading { store: store.clone(), dispatcher, loops, membership };
        Ok(Self {
            own,
            raft_id,
            store,
            peers,
            routes,
            leading,
            address: config.address,
            managers,
            retired: Notify::new(),
        })
    }

    /// Runs until `stop`, then hands leadership over and ends Raft.
    pub async fn run(&self, stop: CancellationToken) {
        let work = stop.child_token();
        // Having its place ends nothing: the leader's work goes on until `stop`.
        let place = async {
            self.take_place().await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = leader::run(self.leading.clone(), work.clone()) => {}
            () = place => {}
            () = self.watch_room() => {}
        }
        work.cancel();
        if self.store.raft().status().borrow().is_leader()
            && let Err(error) = self.store.raft().transfer_leader(HAND_OVER).await
        {
            info!(%error, "leadership was not handed over");
        }
        self.store.raft().shutdown().await;
    }

    /// Tells, once each time, when room on this manager's disk gets short and when there is enough again.
    async fn watch_room(&self) {
        let mut short = false;
        loop {
            match self.store.shortage() {
                Some(shortage) if !short => {
                    warn!(
                        directory = %shortage.directory.display(),
                        free = shortage.free,
                        reserve = shortage.reserve,
                        "{shortage}; free some space: this manager's daemon ends when there is none left"
                    );
                    short = true;
                }
                None if short => {
                    info!("this manager's disk has room again");
                    short = false;
                }
                _ => {}
            }
            tokio::time::sleep(ROOM_PERIOD).await;
        }
    }

    /// What an operator should know of this manager.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.store.shortage().map(|shortage| shortage.to_string()).into_iter().collect()
    }

    /// Resolves when this manager's Raft id is no longer its own: what it has of Raft is to be deleted, and a new place asked for.
    pub async fn retired(&self) {
        self.retired.notified().await;
    }

    /// Whether a directory has what a manager needs to go on without asking anybody.
    #[must_use]
    pub fn is_known(directory: &Path) -> bool {
        directory.join(RAFT_ID_FILE).exists()
    }

    /// Takes this manager out of Raft by asking the leader.
    ///
    /// # Errors
    /// If the rest would have no quorum.
    pub async fn leave(&self, force: bool) -> Result<(), ApiError> {
        if self.status().members.voters.len() <= 1 {
            return Ok(());
        }
        if self.status().is_leader() {
            self.store.raft().transfer_leader(HAND_OVER).await.map_err(crate::store::raft_error)?;
        }
        let Destination::Leader(address) = forward::destination(self.store.raft()).await? else {
            return Err(ApiError::new(Reason::Unavailable, "leadership could not be handed over; try again"));
        };
        let mut client = MembershipClient::new(self.peers.kept(&address)?);
        let request = v1::MembershipLeaveRequest { force };
        client.leave(request).await.map_err(|status| ApiError::from_status(&status))?;
        Ok(())
    }

    /// A certificate that this manager gives itself for the key of `csr`, for when its own is over and nobody can give it one.
    /// Nothing if what it has of the state does not know it as a manager.
    ///
    /// # Errors
    /// If the request or the root cannot be used.
    pub fn certify_self(
        &self,
        present: &PeerIdentity,
        csr: &[u8],
    ) -> Result<Option<CertificateDer<'static>>, ApiError> {
        crate::ca::certify_self(&self.store.view(), present, csr)
    }

    /// Where Raft stands.
    #[must_use]
    pub fn status(&self) -> RaftStatus {
        self.store.raft().status().borrow().clone()
    }

    /// The replicated state.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// This manager's node.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.own
    }

    /// Answers a call that the access table has admitted: checks that the caller is still a member, passes calls for the leader
    /// on, and gives the rest to its service.
    pub async fn handle(&self, request: Request<Body>) -> Response<Body> {
        match self.answer(request).await {
            Ok(response) => response,
            Err(error) => Status::from(error).into_http(),
        }
    }

    async fn answer(&self, request: Request<Body>) -> Result<Response<Body>, ApiError> {
        let path = request.uri().path().to_owned();
        let caller = request.extensions().get::<Caller>().cloned().unwrap_or(Caller::Stranger);
        if access::method(&path).is_some_and(|method| method.leader)
            && let Destination::Leader(address) = forward::destination(self.store.raft()).await?
        {
            // The leader checks the caller: this manager may not have heard of a node that has just joined.
            return forward::forward(&self.peers, &address, request).await;
        }
        let passed_on_by = request.extensions().get::<PassedOnBy>().map(|by| by.0);
        member::check(&self.store.view(), &caller, passed_on_by, &path)?;
        let store = self.store.clone();
        let request =
            recheck::rechecked(request, move || member::check(&store.view(), &caller, passed_on_by, &path));
        let served = self.routes.clone().oneshot(request).await;
        served.map_err(|error| ApiError::new(Reason::Internal, error.to_string()))
    }
}

fn routes(
    config: &ManagerConfig,
    own: NodeId,
    store: &Store,
    dispatcher: &Arc<Dispatcher>,
    loops: &LoopTable,
    peers: &Peers,
    membership: MembershipApi,
) -> Routes {
    macro_rules! limited {
        ($server:path, $service:expr) => {{
            use $server as server;
            server::new($service).max_decoding_message_size(MESSAGE_LIMIT).max_encoding_message_size(16 << 20)
        }};
    }
    let images = ImagesApi::new(
        store.clone(),
        Arc::clone(dispatcher),
        Arc::clone(&config.images),
        config.images_changed.clone(),
        peers.clone(),
    );
    Routes::default()
        .add_service(limited!(
            v1::services_server::ServicesServer,
            ServicesApi::new(store.clone(), Arc::clone(dispatcher))
        ))
        .add_service(limited!(v1::tasks_server::TasksServer, TasksApi(store.clone())))
        .add_service(limited!(
            v1::nodes_server::NodesServer,
            NodesApi::new(store.clone(), Arc::clone(dispatcher), own)
        ))
        .add_service(limited!(v1::swarm_server::SwarmServer, SwarmApi::new(store.clone(), loops.clone())))
        .add_service(limited!(v1::images_server::ImagesServer, images))
        .add_service(limited!(
            v1::volumes_server::VolumesServer,
            VolumesApi::new(store.clone(), Arc::clone(dispatcher), own)
        ))
        .add_service(limited!(v1::files_server::FilesServer, FilesApi(store.clone())))
        .add_service(
            limited!(
                v1::certificate_authority_server::CertificateAuthorityServer,
                CaApi::new(store.clone(), Arc::clone(dispatcher))
            )
            // Anybody may send these: a request for a certificate and what a machine says of itself.
            .max_decoding_message_size(STRANGERS_MESSAGE_LIMIT),
        )
        .add_service(limited!(v1::membership_server::MembershipServer, membership))
        .add_service(limited!(v1::dispatcher_server::DispatcherServer, DispatcherApi(Arc::clone(dispatcher))))
        .add_service(store.raft().service().into_server())
        .prepare()
}

/// Makes the first entries of a cluster, unless an earlier start got that far.
async fn bootstrap(store: &Store, cluster: Cluster, node: Node, address: &str) -> Result<(), ApiError> {
    let raft = store.raft();
    raft.initialize(address).await.map_err(crate::store::raft_error)?;
    raft.read_barrier(crate::store::READ_DEADLINE).await.map_err(crate::store::raft_error)?;
    if store.view().cluster().is_some() {
        return Ok(());
    }
    let id = node.id;
    let member = coracle_model::node::ManagerMember { raft_id: FIRST_RAFT_ID, address: address.to_owned() };
    let changes = vec![
        Change::CreateCluster(Cluster { created_at: now(), next_raft_id: FIRST_RAFT_ID + 1, ..cluster }),
        Change::CreateNode(node),
        Change::SetManagerMember { node: id, member: Some(member) },
    ];
    store.propose(Write::internal("swarm init", changes)).await?;
    Ok(())
}

const RAFT_ID_FILE: &str = "member";

fn known_raft_id(config: &ManagerConfig) -> Result<Option<u64>, ApiError> {
    let path = config.directory.join(RAFT_ID_FILE);
    match read_sealed_file(&config.keyring, &path, RAFT_ID_FILE.as_bytes()) {
        Ok(bytes) => {
            let bytes = bytes.try_into().map_err(|_| {
                ApiError::new(
                    Reason::Internal,
                    format!("{} is damaged: restore it from a backup", path.display()),
                )
            })?;
            Ok(Some(u64::from_be_bytes(bytes)))
        }
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(ApiError::new(Reason::Internal, chain(&error))),
    }
}

fn remember_raft_id(config: &ManagerConfig, raft_id: u64) -> Result<u64, ApiError> {
    let internal = |error: String| ApiError::new(Reason::Internal, error);
    std::fs::create_dir_all(&config.directory)
        .map_err(|error| internal(format!("creating {}: {error}", config.directory.display())))?;
    let path = config.directory.join(RAFT_ID_FILE);
    write_sealed_file(&config.keyring, &path, RAFT_ID_FILE.as_bytes(), &raft_id.to_be_bytes())
        .map_err(|error| internal(chain(&error)))?;
    Ok(raft_id)
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    coracle_daemon::ErrorChain(error).to_string()
}
