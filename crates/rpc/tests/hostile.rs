//! Clients that mean harm do not keep those that mean well from being served. The attacker has an address of its own, as it would.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use coracle_model::id::{ClusterId, NodeId};
use coracle_pki::csr::{CertificateRequest, request_certificate};
use coracle_pki::issue::{DEFAULT_VALIDITY, Grant};
use coracle_pki::key::PrivateKey;
use coracle_pki::tls::{self, ExpectedServer, SwappableIdentity};
use coracle_pki::{Authority, NodeIdentity, RootKey, Subject, UnixTime};
use coracle_proto::status::{ApiError, Reason};
use coracle_rpc::connect::{channel, channel_lazy};
use coracle_rpc::door::Limits;
use coracle_rpc::limit::Rate;
use coracle_rpc::serve::serve_tls_within;
use http::{Request, Response};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::body::Body;
use tonic::transport::Channel;
use tower::{Service as _, ServiceExt as _};

const PATIENCE: Duration = Duration::from_secs(30);

struct World {
    authority: Authority,
    address: SocketAddr,
    _stop: DropGuard,
}

impl World {
    async fn new(limits: Limits) -> Self {
        let key = RootKey::generate().unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs()));
        let authority = Authority::new(key.certify(ClusterId::from_bits(1), now).unwrap(), key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let server = identity(&authority, Subject::Manager(NodeId::from_bits(1)));
        let tls = Arc::new(tls::server_config(&server).unwrap());
        let handler = tower::service_fn(async |_: Request<Body>| {
            let answer = tonic::Status::from(ApiError::new(Reason::NotFound, "here I am"));
            Ok::<Response<Body>, Infallible>(answer.into_http())
        });
        tokio::spawn(serve_tls_within(limits, listener, tls, handler, stop.clone()));
        Self { authority, address, _stop: stop.drop_guard() }
    }

    /// A channel of a node that means well.
    fn member(&self, bits: u128) -> Channel {
        let identity = identity(&self.authority, Subject::Worker(NodeId::from_bits(bits)));
        let tls = tls::client_config(&identity, ExpectedServer::AnyManager).unwrap();
        channel_lazy(&self.address.to_string(), Arc::new(tls)).unwrap()
    }

    /// A connection of the attacker, from another address.
    async fn tcp(&self) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    /// The same after a handshake without a certificate; nothing if the server will not have it.
    async fn stranger(&self) -> Option<TlsStream<TcpStream>> {
        let connector = TlsConnector::from(Arc::new(tls::fetch_root_unverified().unwrap()));
        connector.connect(tls::server_name(), self.tcp().await).await.ok()
    }
}

fn identity(authority: &Authority, subject: Subject) -> SwappableIdentity {
    let key = PrivateKey::generate().unwrap();
    let request = CertificateRequest::from_der(&request_certificate(&key).unwrap()).unwrap();
    let grant = Grant { subject, validity: DEFAULT_VALIDITY, now: UnixTime::now() };
    let leaf = authority.issue(&request, &grant).unwrap();
    SwappableIdentity::new(NodeIdentity::new(vec![leaf], key, authority.root().clone()).unwrap()).unwrap()
}

async fn is_served(channel: &Channel) -> bool {
    let request = Request::post("http://coracle/any").body(Body::empty()).unwrap();
    let mut channel = channel.clone();
    let call = async { channel.ready().await.ok()?.call(request).await.ok() };
    tokio::time::timeout(PATIENCE, call).await.is_ok_and(|answer| answer.is_some())
}

/// Waits until the server has closed the connection, whatever it sends before.
async fn closed(stream: &mut (impl AsyncRead + Unpin)) {
    let mut bytes = vec![0; 4096];
    let read = async { while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {} };
    tokio::time::timeout(PATIENCE, read).await.expect("the server closes the connection");
}

fn unlimited() -> Rate {
    Rate { burst: f64::MAX, per_second: f64::MAX }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_never_speak_are_few_and_given_up() {
    let limits = Limits {
        handshake: Duration::from_secs(2),
        handshakes: 12,
        handshakes_of_one_source: 8,
        connections_begun: unlimited(),
        ..Limits::default()
    };
    let world = World::new(limits).await;
    let mut silent = Vec::new();
    for number in 0..40 {
        let mut stream = world.tcp().await;
        if number % 2 == 0 {
            // The beginning of a hello, whose end never comes (RFC 8446, section 5.1).
            let _ = stream.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 0xfc]).await;
        }
        silent.push(stream);
    }
    // Most were refused at once; those at the door keep nobody from another address out.
    for bits in 2..6 {
        assert!(is_served(&world.member(bits)).await);
    }
    for stream in &mut silent {
        closed(stream).await;
    }
    assert!(world.stranger().await.is_some(), "their places are given back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_without_a_certificate_are_few_and_do_not_stay() {
    let limits = Limits {
        strangers: 6,
        strangers_of_one_source: 4,
        stranger_life: Duration::from_secs(3),
        connections_begun: unlimited(),
        ..Limits::default()
    };
    let world = World::new(limits).await;
    let member = world.member(2);
    assert!(is_served(&member).await);
    let mut strangers = Vec::new();
    for _ in 0..30 {
        strangers.extend(world.stranger().await);
    }
    assert!(is_served(&member).await && is_served(&world.member(3)).await);
    for stream in &mut strangers {
        closed(stream).await;
    }
    assert!(is_served(&member).await, "members stay as long as they want");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_source_begins_so_many_connections_and_no_more() {
    let limits = Limits { connections_begun: Rate { burst: 5.0, per_second: 0.001 }, ..Limits::default() };
    let world = World::new(limits).await;
    let mut accepted = 0;
    for _ in 0..20 {
        accepted += usize::from(world.stranger().await.is_some());
    }
    assert_eq!(accepted, 5);
    assert!(is_served(&world.member(2)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_member_has_so_many_connections_and_no_more() {
    let limits = Limits { connections_of_one_member: 3, ..Limits::default() };
    let world = World::new(limits).await;
    let mine: Vec<Channel> = (0..6).map(|_| world.member(2)).collect();
    let mut served = 0;
    for channel in &mine {
        served += usize::from(is_served(channel).await);
    }
    assert_eq!(served, 3);
    assert!(is_served(&world.member(3)).await, "another member is not concerned");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_makes_so_many_requests_and_no_more() {
    let limits = Limits { stranger_requests: 4, connections_begun: unlimited(), ..Limits::default() };
    let world = World::new(limits).await;
    let (mut sender, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(world.stranger().await.unwrap()),
    )
    .await
    .unwrap();
    let connection = tokio::spawn(connection);
    let mut answered = 0;
    for _ in 0..50 {
        let request = Request::post("http://coracle/any").body(Body::empty()).unwrap();
        let Ok(()) = sender.ready().await else { break };
        answered += usize::from(sender.send_request(request).await.is_ok());
    }
    // One may be under way while the server says that it was the last.
    assert!((4..=6).contains(&answered), "{answered}");
    let ended = tokio::time::timeout(PATIENCE, connection).await;
    assert!(ended.is_ok(), "the server ends the connection");
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame of HTTP/2 (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// Byte streams that no client of good will sends.
fn hostile_streams() -> Vec<(&'static str, Vec<u8>)> {
    let settings = frame(4, 0, 0, &[]);
    // A POST to `/` over http, from the static table (RFC 7541, appendix A).
    let open = |stream: u32| frame(1, 0x4, stream, &[0x83, 0x86, 0x84]);
    let many = |make: &dyn Fn(u32) -> Vec<u8>| (0..20_000u32).flat_map(make).collect::<Vec<u8>>();
    let begun = |rest: Vec<u8>| [PREFACE, &settings, &rest].concat();
    vec![
        ("no HTTP/2", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".repeat(50)),
        ("settings without end", begun(many(&|_| frame(4, 0, 0, &[0, 3, 0, 0, 0, 9])))),
        ("pings without end", begun(many(&|_| frame(6, 0, 0, &[7; 8])))),
        ("rapid reset", begun(many(&|n| [open(2 * n + 1), frame(3, 0, 2 * n + 1, &[0, 0, 0, 8])].concat()))),
        ("thousands of streams", begun(many(&|n| open(2 * n + 1)))),
        (
            "headers that never end",
            begun([frame(1, 0, 1, &[0x83]), many(&|_| frame(9, 0, 1, &[0x40, 1, b'a', 1, b'b']))].concat()),
        ),
        ("a frame beyond the limit", begun(frame(0, 0, 1, &vec![0; 1 << 20]))),
        ("data on no stream", begun(many(&|n| frame(0, 0, 2 * n + 1, b"x")))),
        ("a window beyond its limit", begun(many(&|_| frame(8, 0, 0, &[0x7f, 0xff, 0xff, 0xff])))),
        ("empty data without end", begun([open(1), many(&|_| frame(0, 0, 1, &[]))].concat())),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_ends_its_own_connection_only() {
    let limits =
        Limits { stranger_life: Duration::from_secs(3), connections_begun: unlimited(), ..Limits::default() };
    let world = Arc::new(World::new(limits).await);
    let member = world.member(2);
    let mut random = StdRng::seed_from_u64(1);
    let mut streams = hostile_streams();
    for _ in 0..5 {
        let mut bytes = [PREFACE, &frame(4, 0, 0, &[])].concat();
        bytes.extend((0..10_000).map(|_| random.random::<u8>()));
        streams.push(("random bytes", bytes));
    }
    let attacks = streams.into_iter().map(|(what, bytes)| {
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            let stream = world.stranger().await.expect(what);
            let (mut reading, mut writing) = tokio::io::split(stream);
            // The server may close before everything is sent.
            let sending = tokio::spawn(async move { drop(writing.write_all(&bytes).await) });
            closed(&mut reading).await;
            sending.await.expect(what);
        })
    });
    let attacks: Vec<_> = attacks.collect();
    assert!(is_served(&member).await);
    for attack in attacks {
        attack.await.unwrap();
        assert!(is_served(&member).await);
    }
    assert!(is_served(&world.member(3)).await);
}

#[tokio::test]
async fn who_answers_in_anothers_place_is_named() {
    let world = World::new(Limits::default()).await;
    let identity = identity(&world.authority, Subject::Worker(NodeId::from_bits(5)));
    let tls = tls::client_config(&identity, ExpectedServer::Manager(NodeId::from_bits(9))).unwrap();
    let error = channel(&world.address.to_string(), Arc::new(tls)).await.unwrap_err();
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    let text = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
    let (actual, expected) = (NodeId::from_bits(1), NodeId::from_bits(9));
    let said = format!(
        "server is manager {actual}, expected manager {expected}: the address belongs to another node"
    );
    assert!(text.ends_with(&said), "{text}");
}
