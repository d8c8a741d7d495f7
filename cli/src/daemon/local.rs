//! The node itself, on its local socket.

use std::sync::Arc;

use coracle_model::node::Availability;
use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1;
use coracle_proto::v1::local_node_server::LocalNode;
use tonic::{Request, Response, Status};

use super::node::Node;

/// The service.
#[derive(Debug, Clone)]
pub(super) struct LocalApi(pub(super) Arc<Node>);

fn refused(error: anyhow::Error) -> Status {
    match error.downcast::<ApiError>() {
        Ok(error) => error.into(),
        Err(error) => ApiError::new(Reason::Invalid, format!("{error:#}")).into(),
    }
}

#[tonic::async_trait]
impl LocalNode for LocalApi {
    async fn init(&self, request: Request<v1::InitRequest>) -> Result<Response<v1::InitResponse>, Status> {
        let availability = Availability::from(request.get_ref().availability());
        let request = request.into_inner();
        let made = self.0.init(&request.advertise_address, &request.listen_address, availability).await;
        made.map(Response::new).map_err(refused)
    }

    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinResponse>, Status> {
        self.0.join(request.into_inner()).await.map(Response::new).map_err(refused)
    }

    async fn leave(&self, request: Request<v1::LeaveRequest>) -> Result<Response<v1::LeaveResponse>, Status> {
        self.0.leave(request.get_ref().force).await.map_err(refused)?;
        Ok(Response::new(v1::LeaveResponse {}))
    }

    async fn info(&self, _: Request<v1::InfoRequest>) -> Result<Response<v1::InfoResponse>, Status> {
        Ok(Response::new(self.0.info().await))
    }
}
