//! Passing a whole call on to the leader, with the identity of its caller.

use std::net::SocketAddr;
use std::time::Duration;

use coracle_daemon::ErrorChain;
use coracle_proto::status::{ApiError, Reason};
use coracle_rpc::caller::{Caller, FORWARDED_HEADER};
use http::{HeaderValue, Request, Response};
use tonic::body::Body;
use tower::{Service, ServiceExt};

use super::peers::Peers;
use crate::raft::RaftNode;

/// How long a call waits for a leader to be elected before it is turned away.
const LEADER_WAIT: Duration = Duration::from_secs(5);

/// Where a call that only the leader answers is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// This manager leads.
    Here,
    /// The manager at this address leads.
    Leader(String),
}

/// Finds the leader, waiting a moment while there is none.
///
/// # Errors
/// If there is no leader in time.
pub async fn destination(raft: &RaftNode) -> Result<Destination, ApiError> {
    let mut status = raft.status();
    let found = tokio::time::timeout(LEADER_WAIT, async {
        loop {
            let now = status.borrow_and_update().clone();
            if now.is_leader() {
                return Destination::Here;
            }
            if let Some(leader) = now.leader.filter(|leader| !leader.address.is_empty()) {
                return Destination::Leader(leader.address);
            }
            if status.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    });
    found.await.map_err(|_| {
        ApiError::new(
            Reason::Unavailable,
            "the cluster has no leader: a majority of its managers cannot be reached".to_owned(),
        )
        .with_hint("see `coracle node ls` on another manager, and start the managers that are down")
    })
}

/// Passes a call on.
///
/// # Errors
/// If it was passed on before, so that two managers that take each other for the leader do not play ball, or if the leader
/// cannot be reached.
pub async fn forward(
    peers: &Peers,
    address: &str,
    mut request: Request<Body>,
) -> Result<Response<Body>, ApiError> {
    let caller = request.extensions().get::<Caller>().cloned().unwrap_or(Caller::Stranger);
    if matches!(caller, Caller::Forwarded(_)) {
        return Err(ApiError::new(Reason::NotLeader, "leadership is changing; try again".to_owned()));
    }
    let peer = request.extensions().get::<SocketAddr>().map(SocketAddr::ip);
    let value = HeaderValue::from_str(&caller.to_forwarded(peer).encode())
        .map_err(|_| ApiError::new(Reason::Internal, "the caller cannot be named in a header".to_owned()))?;
    request.headers_mut().insert(FORWARDED_HEADER, value);
    request.extensions_mut().clear();
    let unreachable = |error: tonic::transport::Error| {
        ApiError::new(
            Reason::Unavailable,
            format!("the leader at {address} cannot be reached: {}", ErrorChain(&error)),
        )
    };
    let mut channel =
        if is_bulk(request.uri().path()) { peers.open(address)? } else { peers.kept(address)? };
    let ready = channel.ready().await.map_err(unreachable)?;
    ready.call(request).await.map_err(|error| {
        if never_connected(&error) {
            return unreachable(error);
        }
        let message =
            format!("the leader at {address} was lost while it worked on the call: {}", ErrorChain(&error));
        ApiError::new(Reason::OutcomeUnknown, message)
    })
}

/// Calls that may carry gigabytes for somebody who is slow: on a connection of their own, since what they hold of the window of
/// a shared one (RFC 9113, section 5.2) would be missing to all other calls.
fn is_bulk(path: &str) -> bool {
    ["/coracle.v1.Volumes/Backup", "/coracle.v1.Volumes/Restore"].contains(&path)
}

/// Whether a call failed before anything was sent.
fn never_connected(error: &tonic::transport::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}
