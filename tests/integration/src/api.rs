//! The API of a node, asked through its local socket.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use coracle_proto::v1;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};

use crate::view::{Task, View};

/// How long one answer may take before another manager is asked.
pub const CALL_DEADLINE: Duration = Duration::from_secs(2);

/// A small runtime for clients, shared by all of a lab.
///
/// # Errors
/// When threads cannot be started.
pub fn runtime() -> Result<Arc<Runtime>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    Ok(Arc::new(runtime.context("start the clients' runtime")?))
}

/// A client of one node: it connects anew for every question, as every command line does.
#[derive(Debug, Clone)]
pub struct Api {
    runtime: Arc<Runtime>,
    endpoint: Endpoint,
    held: Option<Channel>,
}

impl Api {
    /// A client for this socket.
    ///
    /// # Errors
    /// When the path cannot be written as an address.
    pub fn new(runtime: Arc<Runtime>, socket: &Path) -> Result<Self> {
        let address = format!("unix://{}", socket.display());
        let endpoint =
            Endpoint::from_shared(address.clone()).with_context(|| format!("address {address}"))?;
        Ok(Self { runtime, endpoint: endpoint.connect_timeout(CALL_DEADLINE), held: None })
    }

    /// A client that keeps one connection for all that it asks.
    #[must_use]
    pub fn holding(&self) -> Self {
        Self { held: Some(self.channel()), ..self.clone() }
    }

    /// The connection for the next calls.
    #[must_use]
    pub fn channel(&self) -> Channel {
        let _inside = self.runtime.enter();
        self.held.clone().unwrap_or_else(|| self.endpoint.connect_lazy())
    }

    /// Waits for a call, at most `deadline`.
    ///
    /// # Errors
    /// What the call says, or that it took too long.
    pub fn call<T>(
        &self,
        deadline: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T> {
        let answer = self.runtime.block_on(async { tokio::time::timeout(deadline, call).await });
        Ok(answer.context("no answer in time")??.into_inner())
    }

    /// What the node says of itself.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn info(&self) -> Result<v1::InfoResponse> {
        let mut client = v1::local_node_client::LocalNodeClient::new(self.channel());
        self.call(CALL_DEADLINE, client.info(v1::InfoRequest {}))
    }

    /// What the managers say of the cluster.
    ///
    /// # Errors
    /// When this node is no manager, or there is no leader.
    pub fn view(&self) -> Result<View> {
        let channel = self.channel();
        let mut nodes = v1::nodes_client::NodesClient::new(channel.clone());
        let mut services = v1::services_client::ServicesClient::new(channel.clone());
        let mut tasks = v1::tasks_client::TasksClient::new(channel).max_decoding_message_size(usize::MAX);
        let listed = self.call(CALL_DEADLINE, tasks.list(v1::ListTasksRequest::default()))?;
        Ok(View {
            nodes: self.call(CALL_DEADLINE, nodes.list(v1::ListNodesRequest {}))?.nodes,
            services: self.call(CALL_DEADLINE, services.list(v1::ListServicesRequest {}))?.services,
            tasks: listed.tasks.into_iter().map(Task::from_item).collect(),
        })
    }

    /// A small write that may be repeated: a label of a node.
    ///
    /// # Errors
    /// When it was not acknowledged within `deadline`.
    pub fn set_label(&self, node: &str, key: &str, value: &str, deadline: Duration) -> Result<()> {
        let mut nodes = v1::nodes_client::NodesClient::new(self.channel());
        let request = v1::UpdateNodeRequest {
            node: node.to_owned(),
            labels_set: [(key.to_owned(), value.to_owned())].into(),
            ..v1::UpdateNodeRequest::default()
        };
        self.call(deadline, nodes.update(request)).map(drop)
    }
}
