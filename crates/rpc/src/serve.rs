//! Listeners: mutual TLS for the fleet, a socket file for the node's own users.
//!
//! Everything that a stranger controls has a bound: those up to the handshake, and how many connections there are, are in
//! [`crate::door`]; here is what one connection may use.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use coracle_model::role::Role;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tower::{Service, ServiceExt};
use tracing::debug;

use crate::caller::{Caller, LocalUser};
use crate::door::{Door, Entry, Limits};

/// How often a quiet connection is probed and how long its answer may take.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// How long open calls may take to end once a shutdown began.
const DRAIN: Duration = Duration::from_secs(2);
/// Bytes of headers of one request.
const HEADERS: u32 = 16 * 1024;

/// What HTTP/2 lets a caller use on one connection: it bounds the memory that the caller can make us hold.
struct Allowed {
    /// Streams at a time.
    streams: u32,
    /// Bytes received and not yet taken by a handler: of one stream, and of all.
    stream_window: u32,
    connection_window: u32,
    /// Bytes that one stream holds for a caller that does not read.
    send_buffer: usize,
}

impl Allowed {
    fn of(caller: &Caller) -> Self {
        match caller {
            Caller::Stranger => Self {
                streams: 8,
                stream_window: 64 << 10,
                connection_window: 128 << 10,
                send_buffer: 16 << 10,
            },
            Caller::Member(identity) if identity.role() == Role::Worker => Self {
                streams: 512,
                stream_window: 256 << 10,
                connection_window: 1 << 20,
                send_buffer: 128 << 10,
            },
            _ => Self {
                streams: 1024,
                stream_window: 1 << 20,
                connection_window: 4 << 20,
                send_buffer: 400 << 10,
            },
        }
    }
}

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
    serve_tls_within(Limits::default(), listener, tls, handler, stop).await;
}

/// The same with other limits.
pub async fn serve_tls_within<H: Handler>(
    limits: Limits,
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    handler: H,
    stop: CancellationToken,
) {
    let door = Arc::new(Door::new(limits, tls));
    let tracker = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let Some((stream, peer)) = survive(accepted).await else { continue };
        let Some(entry) = door.enter(peer) else {
            debug!(%peer, "refused a connection: too many from this address, or too many handshakes are under way");
            continue;
        };
        let (door, handler, stop) = (Arc::clone(&door), handler.clone(), stop.clone());
        tracker.spawn(async move {
            let Entry { connection: _connection, handshakes } = entry;
            let Some((stream, caller)) = door.handshake(stream, peer).await else { return };
            drop(handshakes);
            let Some(_place) = door.place(&caller, peer) else {
                debug!(%peer, %caller, "refused a connection: too many of this caller");
                return;
            };
            let bounds = matches!(caller, Caller::Stranger)
                .then_some((door.limits.stranger_life, door.limits.stranger_requests));
            serve_connection(stream, peer, caller, handler, bounds, stop).await;
        });
    }
    tracker.close();
    let _ = tokio::time::timeout(DRAIN + Duration::from_secs(1), tracker.wait()).await;
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
        tracker.spawn(async move {
            serve_connection(stream, peer, Caller::Local(user), handler, None, stop).await
        });
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

/// Serves one connection. `bounds` are how long it lasts and how many requests it may make, if that is limited.
async fn serve_connection<I, H>(
    stream: I,
    peer: SocketAddr,
    caller: Caller,
    handler: H,
    bounds: Option<(Duration, usize)>,
    stop: CancellationToken,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handler,
{
    let allowed = Allowed::of(&caller);
    let (life, requests) = bounds.map_or((None, usize::MAX), |(life, requests)| (Some(life), requests));
    let (made, enough) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
    let last = enough.clone();
    let service = tower::service_fn(move |request: Request<Incoming>| {
        if made.fetch_add(1, Ordering::Relaxed) + 1 >= requests {
            last.cancel();
        }
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
        .max_concurrent_streams(allowed.streams)
        .max_header_list_size(HEADERS)
        .initial_stream_window_size(allowed.stream_window)
        .initial_connection_window_size(allowed.connection_window)
        .max_send_buf_size(allowed.send_buffer)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut connection = std::pin::pin!(connection);
    let lived = async {
        match life {
            Some(life) => tokio::time::sleep(life).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        ended = connection.as_mut() => {
            if let Err(error) = ended {
                debug!(%peer, %error, "connection ended");
            }
            return;
        }
        () = stop.cancelled() => {}
        () = enough.cancelled() => {}
        () = lived => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(DRAIN, connection).await;
}
