//! Listeners: mutual TLS for the fleet, a socket file for the node's own users.
//!
//! Everything that a stranger controls has a bound: the time of a handshake, the number of handshakes under way,
//! of connections of one address, of streams of one connection, and the size of headers.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coracle_pki::identity::PeerIdentity;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tower::{Service, ServiceExt};
use tracing::debug;

use crate::caller::{Caller, LocalUser};

/// Longest time for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes under way at a time: of all, and of one address, so that one that stalls does not keep others out. More are refused.
const HANDSHAKES: usize = 512;
const HANDSHAKES_OF_ONE_ADDRESS: usize = 32;
/// Connections of one address at a time. Nodes behind one address (tests, NAT) need several each.
const CONNECTIONS_OF_ONE_ADDRESS: usize = 256;
/// Streams of one connection at a time.
const STREAMS: u32 = 1024;
/// Bytes of headers of one request.
const HEADERS: u32 = 16 * 1024;
/// How often a quiet connection is probed and how long its answer may take.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// How long open calls may take to end once a shutdown began.
const DRAIN: Duration = Duration::from_secs(2);

/// What a listener hands requests to: they carry their [`Caller`] in their extensions.
pub trait Handler:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

impl<T> Handler for T where
    T: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static
{
}

/// Serves the fleet until `stop`: every connection is TLS; a client certificate is asked for and verified when shown.
pub async fn serve_tls<H: Handler>(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    handler: H,
    stop: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(tls);
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    let counts = ConnectionCounts::new(CONNECTIONS_OF_ONE_ADDRESS);
    let shaking = ConnectionCounts::new(HANDSHAKES_OF_ONE_ADDRESS);
    let tracker = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let Some((stream, peer)) = survive(accepted).await else { continue };
        let Some(counted) = counts.enter(peer.ip()) else {
            debug!(%peer, "refused a connection: too many from this address");
            continue;
        };
        let (Ok(permit), Some(hand)) =
            (Arc::clone(&handshakes).try_acquire_owned(), shaking.enter(peer.ip()))
        else {
            debug!(%peer, "refused a connection: too many handshakes are under way");
            continue;
        };
        let (acceptor, handler, stop) = (acceptor.clone(), handler.clone(), stop.clone());
        tracker.spawn(async move {
            let _counted = counted;
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake(acceptor, stream)).await {
                Ok(Ok((stream, caller))) => {
                    drop((permit, hand));
                    serve_connection(stream, peer, caller, handler, stop).await;
                }
                Ok(Err(error)) => debug!(%peer, %error, "refused a connection"),
                Err(_) => debug!(%peer, "gave up on a handshake"),
            }
        });
    }
    tracker.close();
    let _ = tokio::time::timeout(DRAIN + Duration::from_secs(1), tracker.wait()).await;
}

async fn handshake(
    acceptor: TlsAcceptor,
    stream: TcpStream,
) -> io::Result<(tokio_rustls::server::TlsStream<TcpStream>, Caller)> {
    stream.set_nodelay(true)?;
    let stream = acceptor.accept(stream).await?;
    let caller = match stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()) {
        None => Caller::Stranger,
        Some(leaf) => Caller::Member(PeerIdentity::from_verified(leaf).map_err(io::Error::other)?),
    };
    Ok((stream, caller))
}

/// Serves the local socket until `stop`. `permitted` is asked about each connection's user and says what it may be.
pub async fn serve_local<H, P>(listener: UnixListener, handler: H, permitted: P, stop: CancellationToken)
where
    H: Handler,
    P: Fn(u32, u32) -> Option<LocalUser> + Send + Sync + 'static,
{
    let tracker = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let Some((stream, _)) = survive(accepted).await else { continue };
        let Some(user) = local_user(&stream, &permitted) else {
            debug!("refused a local connection: its user is neither root nor in the group");
            continue;
        };
        let (handler, stop) = (handler.clone(), stop.clone());
        let peer = SocketAddr::from(([127, 0, 0, 1], 0));
        tracker
            .spawn(async move { serve_connection(stream, peer, Caller::Local(user), handler, stop).await });
    }
    tracker.close();
    let _ = tokio::time::timeout(DRAIN + Duration::from_secs(1), tracker.wait()).await;
}

fn local_user(stream: &UnixStream, permitted: &impl Fn(u32, u32) -> Option<LocalUser>) -> Option<LocalUser> {
    let credentials = stream.peer_cred().ok()?;
    let mut user = permitted(credentials.uid(), credentials.gid())?;
    user.pid = credentials.pid();
    Some(user)
}

/// An accept that fails (no file descriptors, a connection already reset) must not end the loop nor spin it.
async fn survive<T>(accepted: io::Result<T>) -> Option<T> {
    match accepted {
        Ok(accepted) => Some(accepted),
        Err(error) => {
            debug!(%error, "cannot accept a connection");
            tokio::time::sleep(Duration::from_millis(20)).await;
            None
        }
    }
}

async fn serve_connection<I, H>(
    stream: I,
    peer: SocketAddr,
    caller: Caller,
    handler: H,
    stop: CancellationToken,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handler,
{
    let service = tower::service_fn(move |request: Request<Incoming>| {
        let (handler, mut request) = (handler.clone(), request.map(Body::new));
        request.extensions_mut().insert(caller.clone());
        if let Caller::Member(identity) = &caller {
            request.extensions_mut().insert(identity.clone());
        }
        request.extensions_mut().insert(peer);
        handler.oneshot(request)
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADERS)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => {
            if let Err(error) = ended {
                debug!(%peer, %error, "connection ended");
            }
        }
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(DRAIN, connection).await;
        }
    }
}

/// How many connections each address has.
#[derive(Debug, Clone)]
struct ConnectionCounts {
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
    limit: usize,
}

impl ConnectionCounts {
    fn new(limit: usize) -> Self {
        Self { counts: Arc::default(), limit }
    }

    fn enter(&self, address: IpAddr) -> Option<Counted> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        Some(Counted { counts: self.clone(), address })
    }
}

struct Counted {
    counts: ConnectionCounts,
    address: IpAddr,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.counts.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}
