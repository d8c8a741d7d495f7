//! Where every call to this node enters, from the fleet or from the local socket: the access table first, then whoever serves it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1;
use coracle_rpc::caller::Caller;
use coracle_rpc::gate;
use coracle_rpc::serve::Handler;
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tower::ServiceExt as _;

use super::local::LocalApi;
use super::node::Node;

const LOCAL: &str = "/coracle.v1.LocalNode/";
/// How long a call waits for a daemon that has just begun.
const START: Duration = Duration::from_secs(10);
const TRANSFER: &str = "/coracle.v1.ImageTransfer/";

/// The node's one service.
pub(super) fn service(node: Arc<Node>) -> impl Handler {
    tower::service_fn(move |request| {
        let node = Arc::clone(&node);
        async move {
            Ok::<_, Infallible>(answer(node, request).await.unwrap_or_else(|e| Status::from(e).into_http()))
        }
    })
}

fn inactive() -> ApiError {
    ApiError::new(Reason::Forbidden, "this node is not part of a swarm")
        .with_hint("make one with `coracle swarm init`, or join one with `coracle swarm join`")
}

fn starting() -> ApiError {
    ApiError::new(Reason::Unavailable, "this node's daemon is still starting")
        .with_hint("try again in a moment; its log says what it is at")
}

async fn answer(node: Arc<Node>, mut request: Request<Body>) -> Result<Response<Body>, ApiError> {
    // Right after a restart it is not known yet what this node is: nobody is told that it is in no swarm meanwhile.
    let is_known = node.is_resumed(START).await;
    // What a local user may be follows the node's role of this moment, not that of the moment of connecting.
    if let Some(Caller::Local(user)) = request.extensions_mut().get_mut::<Caller>() {
        user.operator = node.is_manager();
    }
    if !request.uri().path().starts_with(LOCAL) && node.active().is_none() {
        return Err(if is_known { inactive() } else { starting() });
    }
    gate::admit(&mut request)?;
    let path = request.uri().path();
    if path.starts_with(LOCAL) {
        let server = v1::local_node_server::LocalNodeServer::new(LocalApi(node));
        return server.oneshot(request).await.map_err(|never| match never {});
    }
    let active = node.active().ok_or_else(inactive)?;
    if path.starts_with(TRANSFER) {
        // A ticket outlives the membership of the node that it was given to; managers know better.
        if let Some(manager) = active.manager() {
            manager.admit(&request)?;
        }
        let server = v1::image_transfer_server::ImageTransferServer::new(active.transfer());
        return server.oneshot(request).await.map_err(|never| match never {});
    }
    match active.manager() {
        Some(manager) => Ok(manager.handle(request).await),
        None => Err(ApiError::new(Reason::Unavailable, "this node is not a manager (any more)")
            .with_hint("ask one of the managers; `coracle system info` lists them")),
    }
}
