//! One manager behind its listener, the cluster's authority in the test's hands, and clients with whatever certificate.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use coracle_image::ImageStore;
use coracle_manager::manager::{ImagesChanged, Manager, ManagerConfig, Start};
use coracle_manager::raft::Timing;
use coracle_manager::store::{Store, Write, now};
use coracle_manager_core::Change;
use coracle_model::cluster::{Cluster, ClusterSpec, Secret};
use coracle_model::id::{ClusterId, NodeId};
use coracle_model::node::{
    Availability, ManagerMember, Node, NodeDescription, NodeSpec, NodeState, NodeStatus,
};
use coracle_model::role::Role;
use coracle_model::time::Timestamp;
use coracle_model::version::Version;
use coracle_pki::csr::{CertificateRequest, request_certificate};
use coracle_pki::issue::{Authority, DEFAULT_VALIDITY, Grant};
use coracle_pki::key::PrivateKey;
use coracle_pki::tls::{self, SwappableIdentity};
use coracle_pki::{NodeIdentity, RootKey, Subject, TicketKey, UnixTime};
use coracle_proto::status::{ApiError, Reason};
use coracle_rpc::door::Limits;
use coracle_rpc::limit::Rate;
use coracle_rpc::{connect, gate};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use prost::bytes::Bytes;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;
use tonic::body::Body;
use tonic::transport::Channel;
use tower::{Service as _, ServiceExt as _};

/// Longest wait for anything that is due, on a machine with other work.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A node's certificate with its key.
pub(crate) struct Credentials {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKey,
}

/// What became of a call.
#[derive(Debug, PartialEq)]
pub(crate) enum Answer {
    /// Not even a connection.
    NoConnection,
    /// Refused before any handler saw it, or by one for who calls.
    Refused(Reason),
    /// A handler has answered.
    Reached,
}

pub(crate) struct World {
    pub(crate) cluster: ClusterId,
    pub(crate) manager: NodeId,
    pub(crate) authority: Authority,
    pub(crate) store: Store,
    pub(crate) address: String,
    /// Requests that came through a handshake.
    seen: Arc<AtomicUsize>,
    _stop: DropGuard,
    _folder: TempDir,
}

pub(crate) fn unix_now() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs()))
}

/// A certificate by this authority, at this time.
pub(crate) fn certificate(authority: &Authority, subject: Subject, issued: UnixTime) -> Credentials {
    let key = PrivateKey::generate().unwrap();
    let request = CertificateRequest::from_der(&request_certificate(&key).unwrap()).unwrap();
    let grant = Grant { subject, validity: DEFAULT_VALIDITY, now: issued };
    Credentials { chain: vec![authority.issue(&request, &grant).unwrap()], key }
}

/// Another authority for the same cluster, so that its names are the same.
pub(crate) fn other_authority(cluster: ClusterId) -> Authority {
    let key = RootKey::generate().unwrap();
    Authority::new(key.certify(cluster, unix_now()).unwrap(), key).unwrap()
}

pub(crate) fn node_object(id: NodeId, hostname: &str, role: Role, manager: Option<ManagerMember>) -> Node {
    Node {
        id,
        version: Version::default(),
        created_at: Timestamp::EPOCH,
        spec: NodeSpec {
            role,
            availability: Availability::Active,
            labels: std::collections::BTreeMap::new(),
        },
        description: NodeDescription { hostname: hostname.to_owned(), ..NodeDescription::default() },
        status: NodeStatus {
            state: NodeState::Unknown,
            since: Timestamp::EPOCH,
            message: String::new(),
            address: "127.0.0.1:9".to_owned(),
        },
        manager,
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let cluster = ClusterId::from_bits(rand::random());
        let manager = NodeId::from_bits(rand::random());
        let authority = other_authority(cluster);
        let leaf = certificate(&authority, Subject::Manager(manager), unix_now());
        let identity = NodeIdentity::new(leaf.chain, leaf.key, authority.root().clone()).unwrap();
        let identity = SwappableIdentity::new(identity).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let config = ManagerConfig {
            directory: folder.path().join("raft"),
            identity: identity.clone(),
            keyring: Arc::new(coracle_seal::KeyRing::open_or_create(&folder.path().join("node")).unwrap()),
            images: Arc::new(ImageStore::open(folder.path().join("images")).unwrap()),
            images_changed: ImagesChanged(Arc::new(|| {})),
            address: tokio::sync::watch::channel(address.clone()).1,
            timing: Timing::default(),
            small_log: false,
            disk_reserve: Some(0),
            hold: None,
        };
        let start = Start::Bootstrap {
            cluster: Box::new(cluster_object(cluster, &authority)),
            node: Box::new(node_object(manager, "m1", Role::Manager, None)),
        };
        let running = Arc::new(Manager::start(config, start).await.unwrap());
        let (store, stop) = (running.store().clone(), CancellationToken::new());
        let seen = Arc::new(AtomicUsize::new(0));
        let tls = Arc::new(tls::server_config(&identity).unwrap());
        let many = Rate { burst: f64::MAX, per_second: f64::MAX };
        let limits = Limits { connections_begun: many, ..Limits::default() };
        let handler = {
            let (manager, seen) = (Arc::clone(&running), Arc::clone(&seen));
            tower::service_fn(move |request| {
                seen.fetch_add(1, Ordering::SeqCst);
                answer(Arc::clone(&manager), request)
            })
        };
        tokio::spawn(coracle_rpc::serve::serve_tls_within(limits, listener, tls, handler, stop.clone()));
        let token = stop.clone();
        tokio::spawn(async move { running.run(token).await });
        Self { cluster, manager, authority, store, address, seen, _stop: stop.drop_guard(), _folder: folder }
    }

    pub(crate) fn credentials(&self, subject: Subject) -> Credentials {
        certificate(&self.authority, subject, unix_now())
    }

    pub(crate) fn operator(&self) -> Credentials {
        self.credentials(Subject::Operator("ann".parse().unwrap()))
    }

    pub(crate) async fn write(&self, changes: Vec<Change>) {
        self.store.propose(Write::internal("test", changes)).await.unwrap();
    }

    pub(crate) async fn add_node(
        &self,
        hostname: &str,
        role: Role,
        manager: Option<ManagerMember>,
    ) -> NodeId {
        let id = NodeId::from_bits(rand::random());
        self.write(vec![Change::CreateNode(node_object(id, hostname, role, manager))]).await;
        id
    }

    /// A channel of whoever has these credentials, or none; it connects when it is used.
    pub(crate) fn channel(&self, credentials: Option<&Credentials>) -> Channel {
        let mut config = tls::joining_client_config(self.authority.root()).unwrap();
        if let Some(Credentials { chain, key }) = credentials {
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_pkcs8().unwrap().to_vec()));
            let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
            let certified = CertifiedKey::new(chain.clone(), key);
            config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
        }
        connect::channel_lazy(&self.address, Arc::new(config)).unwrap()
    }

    /// Requests that came through a handshake so far.
    pub(crate) fn seen(&self) -> usize {
        self.seen.load(Ordering::SeqCst)
    }

    /// Waits until the state is as wanted.
    pub(crate) async fn eventually(
        &self,
        what: &str,
        mut wanted: impl FnMut(&coracle_manager_core::state::State) -> bool,
    ) {
        let end = Instant::now() + PATIENCE;
        while !wanted(&self.store.view()) {
            assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn cluster_object(id: ClusterId, authority: &Authority) -> Cluster {
    Cluster {
        id,
        version: Version::default(),
        created_at: now(),
        feature_level: 1,
        root_certificate: authority.root().to_pem(),
        root_key: Secret::new(authority.key().to_pem().unwrap().to_vec()),
        worker_token: Secret::new(vec![1; 16]),
        manager_token: Secret::new(vec![2; 16]),
        ticket_key: Secret::new(TicketKey::generate().unwrap().expose_seed().unwrap().to_vec()),
        next_raft_id: 1,
        spec: ClusterSpec::default(),
    }
}

/// What a node's listener does with a call for its manager.
async fn answer(
    manager: Arc<Manager>,
    mut request: Request<Body>,
) -> Result<Response<Body>, std::convert::Infallible> {
    Ok(match gate::admit(&mut request) {
        Ok(()) => manager.handle(request).await,
        Err(error) => Status::from(error).into_http(),
    })
}

/// Sends an empty message to a method.
pub(crate) async fn call(channel: &Channel, path: &str) -> Answer {
    let request = Request::post(format!("http://coracle{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(Full::new(Bytes::from_static(&[0; 5]))))
        .unwrap();
    let mut channel = channel.clone();
    let Ok(ready) = channel.ready().await else { return Answer::NoConnection };
    let Ok(response) = ready.call(request).await else { return Answer::NoConnection };
    let (head, body) = response.into_parts();
    let status = match Status::from_header_map(&head.headers) {
        Some(status) => Some(status),
        // A stream that goes on is an answer, too.
        None => match tokio::time::timeout(Duration::from_secs(2), body.collect()).await {
            Ok(Ok(body)) => body.trailers().and_then(Status::from_header_map),
            Ok(Err(status)) => Some(status),
            Err(_) => None,
        },
    };
    let reason = status.filter(|status| status.code() != tonic::Code::Ok);
    match reason.map(|status| ApiError::from_status(&status).reason) {
        Some(reason @ (Reason::Forbidden | Reason::Unauthenticated | Reason::Removed)) => {
            Answer::Refused(reason)
        }
        _ => Answer::Reached,
    }
}
