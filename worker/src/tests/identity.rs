//! Joining tells the secret to nobody but the right cluster; renewing takes the role that managers want.

use std::sync::{Arc, Mutex};

use coracle_daemon::SystemClock;
use coracle_model::id::NodeId;
use coracle_model::node::{Availability, NodeDescription};
use coracle_model::role::Role;
use coracle_model::time::Timestamp;
use coracle_pki::csr::CertificateRequest;
use coracle_pki::identity::PeerIdentity;
use coracle_pki::issue::{DEFAULT_VALIDITY, Grant};
use coracle_pki::recovery::{Challenger, Claim};
use coracle_pki::token::{TokenError, TokenSecret};
use coracle_pki::{CertificateDer, JoinToken, NodeIdentity, Subject, SwappableIdentity, UnixTime};
use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1;
use coracle_proto::v1::certificate_authority_server::{CertificateAuthority, CertificateAuthorityServer};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::manager::{World, now, serve};
use super::rig::eventually;
use crate::NodeUpdate;
use crate::identity::{IdentityError, Joiner, KeepIdentity, join, keep_renewed, recover};

/// What a fake authority does for nodes whose certificates are over.
#[derive(Clone, Default)]
enum Recovery {
    #[default]
    Gives,
    Says(Reason),
}

#[derive(Clone)]
struct Authority {
    recovery: Recovery,
    challenger: Arc<Challenger>,
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

    async fn challenge(
        &self,
        _: Request<v1::ChallengeRequest>,
    ) -> Result<Response<v1::ChallengeResponse>, Status> {
        let challenge = self.challenger.challenge(now()).unwrap().into();
        Ok(Response::new(v1::ChallengeResponse { challenge, time: now().as_secs() * 1_000_000_000 }))
    }

    async fn recover(
        &self,
        request: Request<v1::RecoverRequest>,
    ) -> Result<Response<v1::IssueResponse>, Status> {
        assert!(
            request.extensions().get::<PeerIdentity>().is_none(),
            "what is over is shown in no handshake"
        );
        let request = request.into_inner();
        let claim = Claim {
            challenge: &request.challenge,
            certificate: &request.certificate_der,
            request: &request.csr_der,
        };
        let root = self.world.authority.root();
        let peer = self.challenger.verify(root, &claim, &request.proof, now()).unwrap();
        match self.recovery {
            Recovery::Gives => self.issue_to(peer.node().unwrap(), Role::Worker, &request.csr_der),
            Recovery::Says(reason) => Err(ApiError::new(reason, "no").into()),
        }
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
    Authority {
        recovery: Recovery::default(),
        challenger: Arc::new(Challenger::new().unwrap()),
        world: Arc::clone(world),
        presented,
        secrets: Arc::default(),
        secret: secret.clone(),
    }
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

/// An identity whose certificate was issued this long ago.
fn aged(world: &World, subject: Subject, days: u64) -> SwappableIdentity {
    let issued = now().as_secs() - days * 86_400;
    let issued = UnixTime::since_unix_epoch(std::time::Duration::from_secs(issued));
    SwappableIdentity::new(world.identity_of(subject, issued)).unwrap()
}

async fn serve_authority(authority: Authority, world: &World) -> (String, tokio_util::sync::DropGuard) {
    let routes = tonic::service::Routes::new(CertificateAuthorityServer::new(authority));
    serve(&world.manager(1), routes).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_certificate_is_over_gets_another_for_a_proof_of_its_key() {
    let world = World::new();
    let service = authority(&world, &world, &TokenSecret::generate().unwrap());
    let (address, _server) = serve_authority(service, &world).await;
    let identity = aged(&world, Subject::Worker(NodeId::from_bits(7)), 100);
    let old = identity.current();
    let old_point = old.identity().key().public_point().to_vec();
    let (_managers, managers) = watch::channel(vec!["127.0.0.1:1".to_owned(), address]);
    let (_wanted, wanted) = watch::channel(None);
    let kept = Arc::new(Mutex::new(Vec::new()));
    let stop = CancellationToken::new();
    let keeper = Arc::new(Kept(Arc::clone(&kept)));
    let clock = Arc::new(SystemClock::new());
    let keeping = tokio::spawn(keep_renewed(identity.clone(), managers, wanted, keeper, clock, stop.clone()));
    eventually("it has a certificate again", || identity.current().identity().peer().not_after() > now())
        .await;
    assert_eq!(identity.generation(), 2);
    assert_ne!(identity.current().identity().key().public_point(), old_point, "the key is new, too");
    assert_eq!(*kept.lock().unwrap(), [Role::Worker]);
    stop.cancel();
    keeping.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_told_and_a_clock_that_is_far_off_is_named() {
    let world = World::new();
    let identity = aged(&world, Subject::Worker(NodeId::from_bits(7)), 100);
    let present = Timestamp::from_secs(now().as_secs());
    let mut service = authority(&world, &world, &TokenSecret::generate().unwrap());
    service.recovery = Recovery::Says(Reason::Removed);
    let (removes, _server) = serve_authority(service.clone(), &world).await;
    service.recovery = Recovery::Says(Reason::Unavailable);
    let (no_leader, _server2) = serve_authority(service.clone(), &world).await;
    service.recovery = Recovery::Gives;
    let (gives, _server3) = serve_authority(service, &world).await;

    // Who has looked at this node has the last word; who could not is passed over.
    let error = recover(&identity, &[removes, gives.clone()], present).await.unwrap_err();
    assert!(error.is_removal() && error.is_verdict(), "{error}");
    let error = recover(&identity, std::slice::from_ref(&no_leader), present).await.unwrap_err();
    assert!(!error.is_verdict(), "{error}");
    recover(&identity, &[no_leader, gives.clone()], present).await.unwrap();

    let far = present.after(std::time::Duration::from_secs(400 * 86_400));
    let error = recover(&identity, &[gives], far).await.unwrap_err().to_string();
    assert!(error.contains("this machine's clock says") && error.contains("that of manager"), "{error}");
}

/// A manager that gives itself certificates with its root's key.
struct OwnHand {
    world: Arc<World>,
    asked: Arc<Mutex<u32>>,
}

#[tonic::async_trait]
impl KeepIdentity for OwnHand {
    async fn keep(&self, _: &NodeIdentity) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Ok(())
    }

    fn certify_self(
        &self,
        present: &PeerIdentity,
        csr: &[u8],
    ) -> Result<Option<CertificateDer<'static>>, Box<dyn std::error::Error + Send + Sync>> {
        *self.asked.lock().unwrap() += 1;
        let request = CertificateRequest::from_der(csr)?;
        let grant = Grant { subject: present.subject().clone(), validity: DEFAULT_VALIDITY, now: now() };
        Ok(Some(self.world.authority.issue_as_of(&request, &grant, present.issued_at())?))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_that_nobody_answers_gives_itself_a_certificate_and_has_it_replaced() {
    let world = World::new();
    let identity = aged(&world, Subject::Manager(NodeId::from_bits(7)), 100);
    let issued_at = identity.current().identity().peer().issued_at();
    let (managers_in, managers) = watch::channel(vec!["127.0.0.1:1".to_owned()]);
    let (_wanted, wanted) = watch::channel(None);
    let (stop, asked) = (CancellationToken::new(), Arc::default());
    let keeper = Arc::new(OwnHand { world: Arc::clone(&world), asked: Arc::clone(&asked) });
    let clock = Arc::new(SystemClock::new());
    let keeping = tokio::spawn(keep_renewed(identity.clone(), managers, wanted, keeper, clock, stop.clone()));
    eventually("it has helped itself", || identity.current().identity().peer().not_after() > now()).await;
    assert_eq!(identity.current().identity().peer().issued_at(), issued_at, "no younger than the old one");
    // As soon as somebody answers, it gets a real one.
    let service = authority(&world, &world, &TokenSecret::generate().unwrap());
    let (address, _server) = serve_authority(service, &world).await;
    managers_in.send_replace(vec![address]);
    eventually("it has a real one", || identity.current().identity().peer().issued_at() > issued_at).await;
    assert_eq!(*asked.lock().unwrap(), 1);
    stop.cancel();
    keeping.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_that_is_refused_does_not_help_itself() {
    let world = World::new();
    let mut service = authority(&world, &world, &TokenSecret::generate().unwrap());
    service.recovery = Recovery::Says(Reason::Removed);
    let (address, _server) = serve_authority(service, &world).await;
    let identity = aged(&world, Subject::Manager(NodeId::from_bits(7)), 100);
    let (_managers, managers) = watch::channel(vec![address]);
    let (_wanted, wanted) = watch::channel(None);
    let (stop, asked) = (CancellationToken::new(), Arc::default());
    let told = Arc::new(Mutex::new(false));
    let keeper =
        Arc::new(Told(OwnHand { world: Arc::clone(&world), asked: Arc::clone(&asked) }, Arc::clone(&told)));
    let clock = Arc::new(SystemClock::new());
    let keeping = tokio::spawn(keep_renewed(identity.clone(), managers, wanted, keeper, clock, stop.clone()));
    eventually("the node is told that it was removed", || *told.lock().unwrap()).await;
    assert_eq!((identity.generation(), *asked.lock().unwrap()), (1, 0));
    stop.cancel();
    keeping.await.unwrap();
}

struct Told(OwnHand, Arc<Mutex<bool>>);

#[tonic::async_trait]
impl KeepIdentity for Told {
    async fn keep(&self, identity: &NodeIdentity) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.0.keep(identity).await
    }

    fn certify_self(
        &self,
        present: &PeerIdentity,
        csr: &[u8],
    ) -> Result<Option<CertificateDer<'static>>, Box<dyn std::error::Error + Send + Sync>> {
        self.0.certify_self(present, csr)
    }

    async fn removed(&self) {
        *self.1.lock().unwrap() = true;
    }
}
