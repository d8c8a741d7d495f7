//! A machine that joins tells its token to nobody but the cluster that the token is for: whoever else it talks to is played here,
//! and every byte that such a server deciphers is looked at.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use coracle_model::id::{ClusterId, NodeId};
use coracle_model::node::{Availability, NodeDescription};
use coracle_pki::csr::{CertificateRequest, request_certificate};
use coracle_pki::issue::{DEFAULT_VALIDITY, Grant};
use coracle_pki::key::PrivateKey;
use coracle_pki::tls::{ExpectedServer, SwappableIdentity, client_config, server_config};
use coracle_pki::token::TokenSecret;
use coracle_pki::{Authority, JoinToken, NodeIdentity, RootKey, Subject, UnixTime};
use coracle_proto::v1;
use coracle_proto::v1::certificate_authority_server::{CertificateAuthority, CertificateAuthorityServer};
use coracle_worker::identity::{Joiner, join};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;
use tonic::body::Body;
use tonic::{Status, service::Routes};
use tower::ServiceExt as _;

fn now() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs()))
}

/// Every authority here is of the same cluster, by its own words.
fn authority() -> Authority {
    let key = RootKey::generate().unwrap();
    Authority::new(key.certify(ClusterId::from_bits(1), now()).unwrap(), key).unwrap()
}

fn identity(authority: &Authority, subject: Subject) -> SwappableIdentity {
    let key = PrivateKey::generate().unwrap();
    let request = CertificateRequest::from_der(&request_certificate(&key).unwrap()).unwrap();
    let grant = Grant { subject, validity: DEFAULT_VALIDITY, now: now() };
    let leaf = authority.issue(&request, &grant).unwrap();
    SwappableIdentity::new(NodeIdentity::new(vec![leaf], key, authority.root().clone()).unwrap()).unwrap()
}

fn manager(authority: &Authority) -> SwappableIdentity {
    identity(authority, Subject::Manager(NodeId::from_bits(7)))
}

/// How a server answers.
#[derive(Clone)]
struct Play {
    /// Its answer to `GetRoot`.
    root: Result<Vec<u8>, Status>,
    /// Answers everything by sending the caller elsewhere, as HTTP can (RFC 9110, section 15.4).
    location: Option<String>,
    /// Signs requests, as a manager would.
    authority: Arc<Authority>,
    /// Managers that it names to new nodes.
    managers: Vec<String>,
}

impl Play {
    fn of(authority: &Arc<Authority>, root: &[u8]) -> Self {
        let (authority, root) = (Arc::clone(authority), Ok(root.to_vec()));
        Self { root, location: None, authority, managers: Vec::new() }
    }
}

#[tonic::async_trait]
impl CertificateAuthority for Play {
    async fn get_root(
        &self,
        _: tonic::Request<v1::GetRootRequest>,
    ) -> Result<tonic::Response<v1::GetRootResponse>, Status> {
        let root_certificate_der = self.root.clone()?.into();
        Ok(tonic::Response::new(v1::GetRootResponse { root_certificate_der }))
    }

    async fn issue(
        &self,
        request: tonic::Request<v1::IssueRequest>,
    ) -> Result<tonic::Response<v1::IssueResponse>, Status> {
        let csr = CertificateRequest::from_der(&request.into_inner().csr_der).unwrap();
        let subject = Subject::Worker(NodeId::from_bits(50));
        let grant = Grant { subject, validity: DEFAULT_VALIDITY, now: now() };
        Ok(tonic::Response::new(v1::IssueResponse {
            certificate_der: self.authority.issue(&csr, &grant).unwrap().to_vec().into(),
            root_certificate_der: self.authority.root().der().to_vec().into(),
            managers: self.managers.clone(),
            ..v1::IssueResponse::default()
        }))
    }

    async fn renew(
        &self,
        _: tonic::Request<v1::RenewRequest>,
    ) -> Result<tonic::Response<v1::IssueResponse>, Status> {
        Err(Status::unimplemented("not played"))
    }

    async fn challenge(
        &self,
        _: tonic::Request<v1::ChallengeRequest>,
    ) -> Result<tonic::Response<v1::ChallengeResponse>, Status> {
        Err(Status::unimplemented("not played"))
    }

    async fn recover(
        &self,
        _: tonic::Request<v1::RecoverRequest>,
    ) -> Result<tonic::Response<v1::IssueResponse>, Status> {
        Err(Status::unimplemented("not played"))
    }
}

/// A connection that keeps what was read from it.
struct Recording<S> {
    inner: S,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Recording<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(context, buffer);
        self.heard.lock().unwrap().extend_from_slice(&buffer.filled()[before..]);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Recording<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

/// A server that records.
struct Server {
    address: String,
    heard: Arc<Mutex<Vec<u8>>>,
    connections: Arc<AtomicUsize>,
    _accepting: AbortOnDropHandle<()>,
}

impl Server {
    /// Shows `first` on its first connection and `then` on later ones.
    async fn start(first: &SwappableIdentity, then: &SwappableIdentity, play: Play) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (heard, connections) = (Arc::<Mutex<Vec<u8>>>::default(), Arc::<AtomicUsize>::default());
        let acceptors =
            [first, then].map(|identity| TlsAcceptor::from(Arc::new(server_config(identity).unwrap())));
        let (record, count) = (Arc::clone(&heard), Arc::clone(&connections));
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::SeqCst);
                let Ok(inner) = acceptors[number.min(1)].accept(stream).await else { continue };
                let stream = Recording { inner, heard: Arc::clone(&record) };
                tokio::spawn(serve(stream, play.clone()));
            }
        });
        Self { address, heard, connections, _accepting: AbortOnDropHandle::new(accepting) }
    }

    fn heard(&self, words: &[u8]) -> bool {
        self.heard.lock().unwrap().windows(words.len()).any(|window| window == words)
    }

    /// Whether any form of the secret was heard.
    fn heard_secret(&self, token: &JoinToken) -> bool {
        let text = token.expose();
        let secret = token.secret().expose();
        let hexadecimal: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let (_, last) = text.rsplit_once('-').unwrap();
        self.heard(secret) || self.heard(last.as_bytes()) || self.heard(hexadecimal.as_bytes())
    }
}

async fn serve(stream: Recording<tokio_rustls::server::TlsStream<tokio::net::TcpStream>>, play: Play) {
    let service = tower::service_fn(move |request: Request<Incoming>| {
        let play = play.clone();
        async move {
            if let Some(location) = &play.location {
                let elsewhere = Response::builder().status(307).header("location", location);
                return Ok::<_, std::convert::Infallible>(elsewhere.body(Body::empty()).unwrap());
            }
            let routes = Routes::new(CertificateAuthorityServer::new(play)).prepare();
            Ok(routes.oneshot(request.map(Body::new)).await.unwrap())
        }
    });
    // How the connection ends is the client's affair.
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
        .await;
}

fn joiner() -> Joiner {
    Joiner {
        description: NodeDescription::default(),
        address: "10.0.0.9:2377".into(),
        availability: Availability::Active,
    }
}

/// Tokens of workers and managers differ in their secrets only; both are tried.
fn tokens(authority: &Authority) -> [JoinToken; 2] {
    [(); 2].map(|()| JoinToken::new(authority.root().digest(), TokenSecret::generate().unwrap()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_right_manager_is_told_the_secret() {
    let ours = Arc::new(authority());
    let server = Server::start(&manager(&ours), &manager(&ours), Play::of(&ours, ours.root().der())).await;
    let [token, _] = tokens(&ours);
    join(&server.address, &token, &joiner()).await.unwrap();
    // The searches of the other tests would find it.
    assert!(server.heard_secret(&token));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_else_is() {
    let (ours, fraud) = (Arc::new(authority()), Arc::new(authority()));
    let (true_manager, false_manager) = (manager(&ours), manager(&fraud));
    let true_worker = identity(&ours, Subject::Worker(NodeId::from_bits(8)));
    let (true_root, false_root) = (ours.root().der().to_vec(), fraud.root().der().to_vec());
    let both = [true_root.clone(), false_root.clone()].concat();
    let error = Status::permission_denied("send the token first");
    let refusing = Play { root: Err(error), ..Play::of(&fraud, &[]) };
    // What is shown first, what then, and what is said.
    let cases = [
        ("another cluster", &false_manager, &false_manager, Play::of(&fraud, &false_root)),
        ("one that tells our root", &false_manager, &false_manager, Play::of(&fraud, &true_root)),
        (
            "one between us and a manager, from the second call on",
            &true_manager,
            &false_manager,
            Play::of(&fraud, &true_root),
        ),
        ("the right certificate, another root", &true_manager, &true_manager, Play::of(&ours, &false_root)),
        ("the right certificate, two roots", &true_manager, &true_manager, Play::of(&ours, &both)),
        ("the right certificate, no root", &true_manager, &true_manager, Play::of(&ours, &[])),
        ("a worker of ours", &true_worker, &true_worker, Play::of(&ours, &true_root)),
        ("a worker of ours, behind a manager", &true_manager, &true_worker, Play::of(&ours, &true_root)),
        ("one that wants the token first", &false_manager, &false_manager, refusing),
    ];
    for (what, first, then, play) in cases {
        for token in tokens(&ours) {
            let server = Server::start(first, then, play.clone()).await;
            join(&server.address, &token, &joiner()).await.expect_err(what);
            assert!(!server.heard_secret(&token), "{what}: it was told the secret");
            assert!(server.heard(b"PRI * HTTP/2.0"), "{what}: it was talked to");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_sent_elsewhere() {
    let (ours, fraud) = (Arc::new(authority()), Arc::new(authority()));
    let elsewhere =
        Server::start(&manager(&fraud), &manager(&fraud), Play::of(&fraud, ours.root().der())).await;
    // By HTTP, from whoever may be in between and from a manager.
    for shown in [&fraud, &ours] {
        let location = Some(format!("https://{}/coracle.v1.CertificateAuthority/Issue", elsewhere.address));
        let play = Play { location, ..Play::of(shown, ours.root().der()) };
        let server = Server::start(&manager(shown), &manager(shown), play).await;
        for token in tokens(&ours) {
            join(&server.address, &token, &joiner()).await.unwrap_err();
            assert!(!server.heard_secret(&token));
            assert!(!elsewhere.heard_secret(&token));
        }
    }
    assert_eq!(elsewhere.connections.load(Ordering::SeqCst), 0);
    // By a list of managers: whoever is on it must be one of ours to be talked to.
    let managers = vec![elsewhere.address.clone()];
    let play = Play { managers, ..Play::of(&ours, ours.root().der()) };
    let server = Server::start(&manager(&ours), &manager(&ours), play).await;
    let [token, _] = tokens(&ours);
    let (identity, managers) = join(&server.address, &token, &joiner()).await.unwrap();
    let identity = SwappableIdentity::new(identity).unwrap();
    let tls = client_config(&identity, ExpectedServer::AnyManager).unwrap();
    coracle_rpc::connect::channel(&managers[0], Arc::new(tls)).await.unwrap_err();
    assert!(!elsewhere.heard_secret(&token));
    assert!(elsewhere.heard.lock().unwrap().is_empty(), "nothing at all after the handshake");
}
