//! Joining tells the secret to nobody but the right cluster; renewing takes the role that managers want.

use std::sync::{Arc, Mutex};

use coracle_daemon::SystemClock;
use coracle_model::id::NodeId;
use coracle_model::node::{Availability, NodeDescription};
use coracle_model::role::Role;
use coracle_pki::csr::CertificateRequest;
use coracle_pki::identity::PeerIdentity;
use coracle_pki::issue::{DEFAULT_VALIDITY, Grant};
use coracle_pki::token::{TokenError, TokenSecret};
use coracle_pki::{JoinToken, NodeIdentity, Subject};
use coracle_proto::v1;
use coracle_proto::v1::certificate_authority_server::{CertificateAuthority, CertificateAuthorityServer};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::manager::{World, now, serve};
use super::rig::eventually;
use crate::NodeUpdate;
use crate::identity::{IdentityError, Joiner, KeepIdentity, join, keep_renewed};

#[derive(Clone)]
struct Authority {
    world: Arc<World>,
    /// What `GetRoot` tells, which a fraud copies from the true cluster.
    presented: Vec<u8>,
    secrets: Arc<Mutex<Vec<Vec<u8>>>>,
    secret: TokenSecret,
}

impl Authority {
    fn issue_to(&self, node: NodeId, role: Role, csr: &[u8]) -> Result<Response<v1::IssueResponse>, Status> {
        let request =
            CertificateRequest::from_der(csr).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let subject = Subject::node_with_role(node, role).unwrap();
        let grant = Grant { subject, validity: DEFAULT_VALIDITY, now: now() };
        let certificate = self.world.authority.issue(&request, &grant).unwrap();
        Ok(Response::new(v1::IssueResponse {
            node_id: node.to_string(),
            certificate_der: certificate.to_vec().into(),
            root_certificate_der: self.world.authority.root().der().to_vec().into(),
            managers: vec!["10.0.0.1:2377".into()],
            ..v1::IssueResponse::default()
        }))
    }
}

#[tonic::async_trait]
impl CertificateAuthority for Authority {
    async fn get_root(
        &self,
        _: Request<v1::GetRootRequest>,
    ) -> Result<Response<v1::GetRootResponse>, Status> {
        Ok(Response::new(v1::GetRootResponse { root_certificate_der: self.presented.clone().into() }))
    }

    async fn issue(&self, request: Request<v1::IssueRequest>) -> Result<Response<v1::IssueResponse>, Status> {
        let request = request.into_inner();
        self.secrets.lock().unwrap().push(request.token_secret.to_vec());
        if request.token_secret != self.secret.expose()[..] {
            return Err(Status::unauthenticated("join token is not valid"));
        }
        self.issue_to(NodeId::from_bits(50), Role::Worker, &request.csr_der)
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::IssueResponse>, Status> {
        let node = request.extensions().get::<PeerIdentity>().and_then(PeerIdentity::node);
        let node = node.ok_or_else(|| Status::unauthenticated("who are you"))?;
        self.issue_to(node, Role::Manager, &request.get_ref().csr_der)
    }
}

fn joiner() -> Joiner {
    Joiner {
        description: NodeDescription::default(),
        address: "10.0.0.9:2377".into(),
        availability: Availability::Active,
    }
}

fn authority(world: &Arc<World>, presented: &World, secret: &TokenSecret) -> Authority {
    let presented = presented.authority.root().der().to_vec();
    Authority { world: Arc::clone(world), presented, secrets: Arc::default(), secret: secret.clone() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_with_the_right_token() {
    let world = World::new();
    let secret = TokenSecret::generate().unwrap();
    let service = authority(&world, &world, &secret);
    let routes = tonic::service::Routes::new(CertificateAuthorityServer::new(service.clone()));
    let (address, _server) = serve(&world.manager(1), routes).await;
    let token = JoinToken::new(world.authority.root().digest(), secret);
    let (identity, managers) = join(&address, &token, &joiner()).await.unwrap();
    assert_eq!((identity.node(), identity.role()), (Some(NodeId::from_bits(50)), Role::Worker));
    assert_eq!(managers, ["10.0.0.1:2377"]);

    let wrong = JoinToken::new(world.authority.root().digest(), TokenSecret::generate().unwrap());
    let error = join(&address, &wrong, &joiner()).await.unwrap_err();
    assert!(error.to_string().contains("join token is not valid"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_secret_never_reaches_another_cluster() {
    let (ours, fraud) = (World::new(), World::new());
    let secret = TokenSecret::generate().unwrap();
    let token = JoinToken::new(ours.authority.root().digest(), secret.clone());
    // One that presents its own root, and one that presents ours without having its key.
    for presented in [&fraud, &ours] {
        let service = authority(&fraud, presented, &secret);
        let routes = tonic::service::Routes::new(CertificateAuthorityServer::new(service.clone()));
        let (address, _server) = serve(&fraud.manager(1), routes).await;
        match join(&address, &token, &joiner()).await.unwrap_err() {
            IdentityError::Token { source: TokenError::DigestMismatch { .. }, .. }
            | IdentityError::Connect(_) => {}
            other => panic!("{other}"),
        }
        assert!(service.secrets.lock().unwrap().is_empty());
    }
    // Nor a server of ours that is no manager.
    let service = authority(&ours, &ours, &secret);
    let routes = tonic::service::Routes::new(CertificateAuthorityServer::new(service.clone()));
    let (address, _server) = serve(&ours.worker(3), routes).await;
    join(&address, &token, &joiner()).await.unwrap_err();
    assert!(service.secrets.lock().unwrap().is_empty());
}

struct Kept(Arc<Mutex<Vec<Role>>>);

#[tonic::async_trait]
impl KeepIdentity for Kept {
    async fn keep(&self, identity: &NodeIdentity) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.0.lock().unwrap().push(identity.role());
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_role_that_managers_want_renews_the_certificate_while_it_is_used() {
    let world = World::new();
    let routes = tonic::service::Routes::new(CertificateAuthorityServer::new(authority(
        &world,
        &world,
        &TokenSecret::generate().unwrap(),
    )));
    let (address, _server) = serve(&world.manager(1), routes).await;
    let identity = world.worker(7);
    let (_managers, managers) = watch::channel(vec!["127.0.0.1:1".to_owned(), address]);
    let (wanted, wanted_view) = watch::channel(None);
    let kept = Arc::new(Mutex::new(Vec::new()));
    let stop = CancellationToken::new();
    let keeper = Arc::new(Kept(Arc::clone(&kept)));
    let clock = Arc::new(SystemClock::new());
    let keeping =
        tokio::spawn(keep_renewed(identity.clone(), managers, wanted_view, keeper, clock, stop.clone()));
    let worker = NodeUpdate { role: Role::Worker, availability: Availability::Active };
    wanted.send_replace(Some(worker));
    wanted.send_replace(Some(NodeUpdate { role: Role::Manager, ..worker }));
    eventually("the identity is a manager's", || identity.current().identity().role() == Role::Manager).await;
    assert_eq!(*kept.lock().unwrap(), [Role::Manager]);
    assert_eq!(identity.generation(), 2);
    stop.cancel();
    keeping.await.unwrap();
}
