//! Gives certificates: a first one for a token, a new one for a node that has one, or had one ([`recover`]).

mod recover;
mod refusal;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use coracle_manager_core::change::Change;
use coracle_manager_core::state::View;
use coracle_model::cluster::Cluster;
use coracle_model::id::NodeId;
use coracle_model::node::{Availability, Node, NodeDescription, NodeSpec, NodeState, NodeStatus};
use coracle_model::role::Role;
use coracle_model::time::Timestamp;
use coracle_model::version::Version;
use coracle_pki::Subject;
use coracle_pki::csr::CertificateRequest;
use coracle_pki::issue::{Authority, Grant, MIN_VALIDITY};
use coracle_pki::recovery::Challenger;
use coracle_pki::root::{RootCertificate, RootKey};
use coracle_pki::token::{TokenSecret, TokenSecrets};
use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1;
use coracle_proto::v1::certificate_authority_server::CertificateAuthority;
use coracle_rpc::caller::Caller;
use coracle_rpc::limit::{Limiter, Rate};
use prost::bytes::Bytes;
use rustls::pki_types::UnixTime;
use tonic::{Request, Response, Status};
use tracing::{info, warn};

use crate::dispatcher::Dispatcher;
use crate::dispatcher::session::{check_description, manager_addresses};
use crate::rpc::caller_node;
use crate::store::{Store, Write, now};

pub use recover::certify_self;

/// First certificates that one address may ask for, so that one that asks for many keeps nobody else out: 500 machines behind one
/// address join in under half a minute.
const ONE_ADDRESS: Rate = Rate { burst: 50.0, per_second: 20.0 };
/// The same of all addresses together: what a manager does besides its work. Guessing tokens takes longer than the universe has.
const ALL_ADDRESSES: Rate = Rate { burst: 400.0, per_second: 100.0 };

/// The service.
#[derive(Debug, Clone)]
pub struct CaApi {
    store: Store,
    dispatcher: Arc<Dispatcher>,
    allowance: Arc<Limiter>,
    /// Nothing if the system had no randomness.
    challenger: Option<Arc<Challenger>>,
}

/// The authority of the cluster, from its replicated object.
///
/// # Errors
/// If the root cannot be read.
pub fn authority(cluster: &Cluster) -> Result<Authority, ApiError> {
    let unusable = |error: String| {
        ApiError::new(Reason::Internal, format!("the root of the cluster cannot be used: {error}"))
    };
    let root = RootCertificate::from_pem(cluster.root_certificate.as_bytes())
        .map_err(|e| unusable(e.to_string()))?;
    let key = RootKey::from_pem(cluster.root_key.reveal()).map_err(|e| unusable(e.to_string()))?;
    let authority = Authority::new(root, key).map_err(|e| unusable(e.to_string()))?;
    // What the cluster was made with is what it gets: a shorter life than the least comes from a test only.
    Ok(authority.with_least_validity(cluster.spec.certificate_validity.min(MIN_VALIDITY)))
}

/// Both join tokens' secrets.
///
/// # Errors
/// If the stored bytes have a wrong length.
pub fn token_secrets(cluster: &Cluster) -> Result<TokenSecrets, ApiError> {
    let read = |bytes: &[u8]| {
        let bytes = bytes
            .try_into()
            .map_err(|_| ApiError::new(Reason::Internal, "a stored join token is damaged".to_owned()))?;
        Ok::<_, ApiError>(TokenSecret::from_bytes(bytes))
    };
    Ok(TokenSecrets {
        worker: read(cluster.worker_token.reveal())?,
        manager: read(cluster.manager_token.reveal())?,
    })
}

fn unix_time(time: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_nanos(time.as_nanos()))
}

impl CaApi {
    /// The service over this state.
    #[must_use]
    pub fn new(store: Store, dispatcher: Arc<Dispatcher>) -> Self {
        Self {
            store,
            dispatcher,
            allowance: Arc::new(Limiter::new(ONE_ADDRESS, ALL_ADDRESSES)),
            challenger: Challenger::new().ok().map(Arc::new),
        }
    }

    fn challenger(&self) -> Result<&Challenger, ApiError> {
        self.challenger.as_deref().ok_or_else(|| {
            ApiError::new(
                Reason::Internal,
                "no challenges: the system had no randomness when this manager began",
            )
        })
    }

    fn cluster(view: &View) -> Result<Arc<Cluster>, ApiError> {
        view.cluster().cloned().ok_or_else(refusal::no_state)
    }

    fn sign(cluster: &Cluster, csr: &[u8], subject: Subject) -> Result<(Bytes, Bytes), ApiError> {
        let authority = authority(cluster)?;
        let request = CertificateRequest::from_der(csr)
            .map_err(|error| ApiError::new(Reason::Invalid, format!("certificate request: {error}")))?;
        let grant = Grant { subject, validity: cluster.spec.certificate_validity, now: unix_time(now()) };
        let certificate = authority.issue(&request, &grant).map_err(|error| {
            ApiError::new(Reason::Internal, format!("cannot issue a certificate: {error}"))
        })?;
        let root = Bytes::copy_from_slice(authority.root().der());
        Ok((Bytes::copy_from_slice(&certificate), root))
    }

    fn admit(&self, address: Option<IpAddr>) -> Result<(), ApiError> {
        // Those whose address is not known count as one.
        let address = address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        if self.allowance.take(address.into(), Instant::now()) {
            return Ok(());
        }
        Err(refusal::too_many(address))
    }

    async fn issue_first(
        &self,
        request: v1::IssueRequest,
        peer: Option<IpAddr>,
    ) -> Result<v1::IssueResponse, ApiError> {
        self.admit(peer)?;
        // Not from a stale state: a rotated token must not be taken by a leader that has not heard of it.
        let view = self.store.barrier().await?;
        let cluster = Self::cluster(&view)?;
        let Some(role) = presented_role(&cluster, &request.token_secret)? else {
            warn!(?peer, "a machine tried to join with a wrong token");
            return Err(refusal::wrong_token());
        };
        let node = new_node(&request, role)?;
        let id = node.id;
        let subject = Subject::node_with_role(id, role)
            .ok_or_else(|| ApiError::new(Reason::Internal, "a token for no node's role".to_owned()))?;
        let (certificate_der, root_certificate_der) = Self::sign(&cluster, &request.csr_der, subject)?;
        info!(node = %id, %role, hostname = node.description.hostname, address = node.status.address, "a machine joins");
        self.store.propose(Write::internal("join", vec![Change::CreateNode(node)])).await?;
        Ok(v1::IssueResponse {
            node_id: id.to_string(),
            cluster_id: cluster.id.to_string(),
            role: v1::NodeRole::from(role).into(),
            certificate_der,
            root_certificate_der,
            managers: manager_addresses(&self.store.view()),
        })
    }

    async fn renew_for(
        &self,
        node: NodeId,
        request: &v1::RenewRequest,
    ) -> Result<v1::IssueResponse, ApiError> {
        // Not from a stale state: a leader that was cut off must not renew what was removed.
        let view = self.store.barrier().await?;
        let answer = Self::certify(&view, node, &request.csr_der)?;
        info!(%node, role = ?answer.role(), "certificate renewed");
        Ok(answer)
    }
}

/// Where the caller is; not the manager which passed the call on.
fn stranger_address<T>(request: &Request<T>) -> Option<IpAddr> {
    let peer = request.extensions().get::<SocketAddr>().map(SocketAddr::ip);
    request.extensions().get::<Caller>().map_or(peer, |caller| caller.stranger_address(peer))
}

fn presented_role(cluster: &Cluster, secret: &[u8]) -> Result<Option<Role>, ApiError> {
    let Ok(bytes) = secret.try_into() else { return Ok(None) };
    Ok(token_secrets(cluster)?.role_of(&TokenSecret::from_bytes(bytes)))
}

fn new_node(request: &v1::IssueRequest, role: Role) -> Result<Node, ApiError> {
    let description = NodeDescription::from(request.description.clone().unwrap_or_default());
    check_description(&description, &request.address)?;
    Ok(Node {
        id: NodeId::from_bits(rand::random()),
        version: Version::default(),
        created_at: now(),
        spec: NodeSpec {
            role,
            availability: Availability::from(request.availability()),
            labels: std::collections::BTreeMap::new(),
        },
        description,
        status: NodeStatus {
            state: NodeState::Unknown,
            since: now(),
            message: "joined; not heard yet".to_owned(),
            address: request.address.clone(),
        },
        manager: None,
    })
}

#[tonic::async_trait]
impl CertificateAuthority for CaApi {
    async fn get_root(
        &self,
        _: Request<v1::GetRootRequest>,
    ) -> Result<Response<v1::GetRootResponse>, Status> {
        let view = self.store.view();
        let cluster = Self::cluster(&view)?;
        let root = RootCertificate::from_pem(cluster.root_certificate.as_bytes()).map_err(|error| {
            ApiError::new(Reason::Internal, format!("the root of the cluster cannot be read: {error}"))
        })?;
        Ok(Response::new(v1::GetRootResponse { root_certificate_der: Bytes::copy_from_slice(root.der()) }))
    }

    async fn challenge(
        &self,
        request: Request<v1::ChallengeRequest>,
    ) -> Result<Response<v1::ChallengeResponse>, Status> {
        Ok(Response::new(self.give_challenge(stranger_address(&request))?))
    }

    async fn recover(
        &self,
        request: Request<v1::RecoverRequest>,
    ) -> Result<Response<v1::IssueResponse>, Status> {
        let peer = stranger_address(&request);
        Ok(Response::new(self.recover_node(request.into_inner(), peer).await?))
    }

    async fn issue(&self, request: Request<v1::IssueRequest>) -> Result<Response<v1::IssueResponse>, Status> {
        let peer = stranger_address(&request);
        Ok(Response::new(self.issue_first(request.into_inner(), peer).await?))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::IssueResponse>, Status> {
        let node = caller_node(&request, "only nodes renew certificates")?;
        Ok(Response::new(self.renew_for(node, request.get_ref()).await?))
    }
}
