//! Who is let in, and how many at a time.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coracle_pki::identity::PeerIdentity;
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use crate::caller::Caller;
use crate::limit::{Counted, Counts, Limiter, Rate, Source};

/// The bounds of everything that others control.
///
/// Who has shown no certificate gets just enough for the two calls of a machine that joins or comes back; who has one is counted by who it is.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest time for a TLS handshake.
    pub handshake: Duration,
    /// Handshakes under way at a time; more are refused.
    pub handshakes: usize,
    /// The same of one source, so that one that stalls does not keep others out.
    pub handshakes_of_one_source: usize,
    /// Connections that one source may begin.
    pub connections_begun: Rate,
    /// Connections of one source at a time. Nodes behind one address (tests, NAT) need several each.
    pub connections_of_one_source: usize,
    /// Connections of one member at a time.
    pub connections_of_one_member: usize,
    /// Connections without a certificate at a time.
    pub strangers: usize,
    /// The same of one source.
    pub strangers_of_one_source: usize,
    /// How long a connection without a certificate lasts at most: slow readers and writers are gone then.
    pub stranger_life: Duration,
    /// Requests on such a connection.
    pub stranger_requests: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            handshakes: 512,
            handshakes_of_one_source: 32,
            connections_begun: Rate { burst: 256.0, per_second: 64.0 },
            connections_of_one_source: 256,
            connections_of_one_member: 64,
            strangers: 256,
            strangers_of_one_source: 16,
            stranger_life: Duration::from_secs(30),
            stranger_requests: 16,
        }
    }
}

/// Who is inside and how many are at the door.
pub(crate) struct Door {
    pub(crate) limits: Limits,
    acceptor: TlsAcceptor,
    handshakes: Arc<Semaphore>,
    handshakes_of: Counts<Source>,
    begun: Limiter,
    connections_of: Counts<Source>,
    members: Counts<String>,
    strangers: Arc<Semaphore>,
    strangers_of: Counts<Source>,
}

/// A connection that was let as far as the handshake.
pub(crate) struct Entry {
    /// Given back when the connection ends.
    pub(crate) connection: Counted<Source>,
    /// Given back after the handshake.
    pub(crate) handshakes: (OwnedSemaphorePermit, Counted<Source>),
}

/// The place of a connection whose caller is known; given back when it is dropped.
pub(crate) enum Place {
    Member {
        _counted: Counted<String>,
    },
    Stranger {
        _all: OwnedSemaphorePermit,
        _counted: Counted<Source>,
    },
    /// The local socket's users are not counted.
    Local,
}

impl Door {
    pub(crate) fn new(limits: Limits, tls: Arc<ServerConfig>) -> Self {
        // A connection costs only its source: all together are bounded by the handshakes under way.
        let unlimited = Rate { burst: f64::MAX, per_second: f64::MAX };
        Self {
            acceptor: TlsAcceptor::from(tls),
            handshakes: Arc::new(Semaphore::new(limits.handshakes)),
            handshakes_of: Counts::new(limits.handshakes_of_one_source),
            begun: Limiter::new(limits.connections_begun, unlimited),
            connections_of: Counts::new(limits.connections_of_one_source),
            members: Counts::new(limits.connections_of_one_member),
            strangers: Arc::new(Semaphore::new(limits.strangers)),
            strangers_of: Counts::new(limits.strangers_of_one_source),
            limits,
        }
    }

    /// Before anything was read.
    pub(crate) fn enter(&self, peer: SocketAddr) -> Option<Entry> {
        let source = Source::from(peer.ip());
        let connection = self.connections_of.enter(source)?;
        let counted = self.handshakes_of.enter(source)?;
        if !self.begun.take(source, Instant::now()) {
            return None;
        }
        let permit = Arc::clone(&self.handshakes).try_acquire_owned().ok()?;
        Some(Entry { connection, handshakes: (permit, counted) })
    }

    pub(crate) async fn handshake(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
    ) -> Option<(tokio_rustls::server::TlsStream<TcpStream>, Caller)> {
        match tokio::time::timeout(self.limits.handshake, handshake(self.acceptor.clone(), stream)).await {
            Ok(Ok(accepted)) => Some(accepted),
            Ok(Err(error)) => {
                debug!(%peer, %error, "refused a connection");
                None
            }
            Err(_) => {
                debug!(%peer, "gave up on a handshake");
                None
            }
        }
    }

    /// Once it is known who calls.
    pub(crate) fn place(&self, caller: &Caller, peer: SocketAddr) -> Option<Place> {
        match caller {
            Caller::Member(identity) => {
                let counted = self.members.enter(identity.subject().common_name())?;
                Some(Place::Member { _counted: counted })
            }
            Caller::Stranger => {
                let counted = self.strangers_of.enter(Source::from(peer.ip()))?;
                let all = Arc::clone(&self.strangers).try_acquire_owned().ok()?;
                Some(Place::Stranger { _all: all, _counted: counted })
            }
            Caller::Local(_) | Caller::Forwarded(_) => Some(Place::Local),
        }
    }
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
