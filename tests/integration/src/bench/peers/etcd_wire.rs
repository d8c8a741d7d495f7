//! The few messages of etcd's API that are needed, after `etcdserverpb/rpc.proto` of etcd 3.

use anyhow::Result;
use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic_prost::ProstCodec;

/// `PutRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PutRequest {
    /// Under what.
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
    /// What.
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
}

/// `PutResponse`, of which nothing is looked at.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PutResponse {}

/// `StatusRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StatusRequest {}

/// `ResponseHeader`, as far as it is looked at.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ResponseHeader {
    /// Who answers.
    #[prost(uint64, tag = "2")]
    pub(super) member_id: u64,
}

/// `StatusResponse`, as far as it is looked at.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StatusResponse {
    /// Who answers.
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<ResponseHeader>,
    /// Who leads, as far as the answering member knows; zero when nobody does.
    #[prost(uint64, tag = "4")]
    pub(super) leader: u64,
}

/// `KV/Put`.
///
/// # Errors
/// What the member says.
pub(super) async fn put(channel: &Channel, request: PutRequest) -> Result<()> {
    let path = PathAndQuery::from_static("/etcdserverpb.KV/Put");
    let _: PutResponse = unary(channel, request, path).await?;
    Ok(())
}

/// `Maintenance/Status`.
///
/// # Errors
/// What the member says.
pub(super) async fn status(channel: &Channel) -> Result<StatusResponse> {
    unary(channel, StatusRequest {}, PathAndQuery::from_static("/etcdserverpb.Maintenance/Status")).await
}

async fn unary<Q, A>(channel: &Channel, request: Q, path: PathAndQuery) -> Result<A>
where
    Q: prost::Message + Send + Sync + 'static,
    A: prost::Message + Default + Send + Sync + 'static,
{
    let mut client = Grpc::new(channel.clone());
    client.ready().await?;
    Ok(client.unary(tonic::Request::new(request), path, ProstCodec::default()).await?.into_inner())
}
