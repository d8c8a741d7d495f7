//! The assembly of a manager: Raft, the state, the leader's work, and the services ([`routes`]) that the node's listener serves. How
//! it begins is in [`begin`], how it gets and keeps its place among the others in [`place`].

mod begin;
mod place;
mod routes;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use coracle_daemon::ErrorChain;
use coracle_image::ImageStore;
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
use coracle_seal::KeyRing;
use http::{Request, Response};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower::ServiceExt;
use tracing::{debug, info, warn};

use crate::dispatcher::Dispatcher;
use crate::leader::{self, Leading};
use crate::membership::MembershipApi;
use crate::raft::{RaftConfig, RaftNode, RaftStatus, Timing};
use crate::reconcile::LoopTable;
use crate::reserve::Reserve;
use crate::rpc::forward::{self, Destination};
use crate::rpc::member;
use crate::rpc::peers::Peers;
use crate::rpc::recheck;
use crate::store::{Replicated, Store};

use begin::{FIRST_RAFT_ID, bootstrap, known_raft_id, raft_id_file, remember_raft_id};

/// How long handing leadership over may take.
const HAND_OVER: Duration = Duration::from_secs(5);
/// How long a manager that leaves asks to be taken out of Raft, and the wait in between.
const LEAVE: Duration = Duration::from_secs(10);
const LEAVE_RETRY: Duration = Duration::from_millis(200);
/// How often to look at the room on the disk.
const ROOM_PERIOD: Duration = Duration::from_secs(1);

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
        .map_err(|error| {
            ApiError::new(Reason::Internal, format!("raft cannot start: {}", ErrorChain(&error)))
        })?;
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
        let routes = routes::all(&config, own, &store, &dispatcher, &loops, &peers, membership.clone());
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
        raft_id_file(directory).exists()
    }

    /// Takes this manager out of Raft by asking the leader, and again while leadership changes: an id that stays behind would count
    /// towards majorities for ever.
    ///
    /// # Errors
    /// If the rest would have no quorum.
    pub async fn leave(&self, force: bool) -> Result<(), ApiError> {
        let until = Instant::now() + LEAVE;
        loop {
            match self.ask_to_leave(force).await {
                Err(error)
                    if matches!(
                        error.reason,
                        Reason::NotLeader | Reason::Unavailable | Reason::OutcomeUnknown
                    ) && Instant::now() < until =>
                {
                    debug!(%error, "this manager is still in raft; asking again");
                    tokio::time::sleep(LEAVE_RETRY).await;
                }
                answer => return answer,
            }
        }
    }

    async fn ask_to_leave(&self, force: bool) -> Result<(), ApiError> {
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

    /// Makes sure that the caller of what this node serves beside its manager is still what its certificate says.
    ///
    /// # Errors
    /// If its node was removed, or may no longer call this.
    pub fn admit<T>(&self, request: &Request<T>) -> Result<(), ApiError> {
        let caller = request.extensions().get::<Caller>().cloned().unwrap_or(Caller::Stranger);
        member::check(&self.store.view(), &caller, None, request.uri().path())
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
