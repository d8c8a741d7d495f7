//! A manager with canned state, on a local socket.

mod services;
mod state;
mod the_rest;
mod volumes;

use std::path::PathBuf;
use std::sync::Arc;

use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1;
use tonic::Status;

pub(crate) use state::{Behaviour, State};

/// Serves as long as it lives.
pub(crate) struct Fake {
    folder: tempfile::TempDir,
    pub state: Arc<State>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Clone)]
struct Manager(Arc<State>);

impl Manager {
    /// What happens before any method of the control API.
    fn admit(&self) -> Result<(), Status> {
        if self.0.take_refusal() {
            return Err(ApiError::new(Reason::NotLeader, "no manager leads at the moment").into());
        }
        match self.0.behaviour {
            Behaviour::Manager => Ok(()),
            Behaviour::Worker => Err(ApiError::new(Reason::Forbidden, "this node is a worker")
                .with_hint("run the command on a manager")
                .into()),
        }
    }
}

impl Fake {
    pub(crate) fn start(behaviour: Behaviour) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = Arc::new(State::new(behaviour));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let manager = Manager(Arc::clone(&state));
        let listener = {
            let _inside = runtime.enter();
            tokio::net::UnixListener::bind(folder.path().join("coracle.sock")).unwrap()
        };
        let router = tonic::transport::Server::builder()
            .add_service(v1::services_server::ServicesServer::new(manager.clone()))
            .add_service(
                v1::tasks_server::TasksServer::new(manager.clone()).max_encoding_message_size(1 << 20),
            )
            .add_service(v1::nodes_server::NodesServer::new(manager.clone()))
            .add_service(v1::swarm_server::SwarmServer::new(manager.clone()))
            .add_service(v1::images_server::ImagesServer::new(manager.clone()))
            .add_service(v1::volumes_server::VolumesServer::new(manager.clone()))
            .add_service(v1::local_node_server::LocalNodeServer::new(manager));
        let incoming = tokio_stream::wrappers::UnixListenerStream::new(listener);
        runtime.spawn(router.serve_with_incoming(incoming));
        Self { folder, state, _runtime: runtime }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("coracle.sock")
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }
}
