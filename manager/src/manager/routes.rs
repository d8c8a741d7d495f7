//! The services of a manager, and how large a message each of them takes.

use std::sync::Arc;

use coracle_model::id::NodeId;
use coracle_proto::v1;
use tonic::service::Routes;

use super::ManagerConfig;
use crate::api::file::FilesApi;
use crate::api::image::ImagesApi;
use crate::api::node::NodesApi;
use crate::api::service::ServicesApi;
use crate::api::swarm::SwarmApi;
use crate::api::task::TasksApi;
use crate::api::volume::VolumesApi;
use crate::ca::CaApi;
use crate::dispatcher::Dispatcher;
use crate::dispatcher::service::DispatcherApi;
use crate::membership::MembershipApi;
use crate::reconcile::LoopTable;
use crate::rpc::peers::Peers;
use crate::store::Store;

/// Bytes of one message at most: a service's specification, a batch of reports.
const MESSAGE_LIMIT: usize = 4 << 20;
/// The same of a machine that joins.
const STRANGERS_MESSAGE_LIMIT: usize = 64 << 10;
/// Bytes of one answer at most.
const ANSWER_LIMIT: usize = 16 << 20;
/// The same of one to an operator: half a million tasks. Only those who may see all of the state can have the leader make such a
/// one.
const LIST_LIMIT: usize = 256 << 20;

/// All of them.
pub(super) fn all(
    config: &ManagerConfig,
    own: NodeId,
    store: &Store,
    dispatcher: &Arc<Dispatcher>,
    loops: &LoopTable,
    peers: &Peers,
    membership: MembershipApi,
) -> Routes {
    macro_rules! limited {
        ($server:path, $service:expr) => {{
            use $server as server;
            server::new($service)
                .max_decoding_message_size(MESSAGE_LIMIT)
                .max_encoding_message_size(ANSWER_LIMIT)
        }};
    }
    macro_rules! lists {
        ($server:path, $service:expr) => {
            limited!($server, $service).max_encoding_message_size(LIST_LIMIT)
        };
    }
    let images = ImagesApi::new(
        store.clone(),
        Arc::clone(dispatcher),
        Arc::clone(&config.images),
        config.images_changed.clone(),
        peers.clone(),
    );
    Routes::default()
        .add_service(lists!(
            v1::services_server::ServicesServer,
            ServicesApi::new(store.clone(), Arc::clone(dispatcher))
        ))
        .add_service(lists!(v1::tasks_server::TasksServer, TasksApi(store.clone())))
        .add_service(lists!(
            v1::nodes_server::NodesServer,
            NodesApi::new(store.clone(), Arc::clone(dispatcher), own)
        ))
        .add_service(limited!(v1::swarm_server::SwarmServer, SwarmApi::new(store.clone(), loops.clone())))
        .add_service(lists!(v1::images_server::ImagesServer, images))
        .add_service(lists!(
            v1::volumes_server::VolumesServer,
            VolumesApi::new(store.clone(), Arc::clone(dispatcher), own)
        ))
        .add_service(lists!(v1::files_server::FilesServer, FilesApi(store.clone())))
        .add_service(
            limited!(
                v1::certificate_authority_server::CertificateAuthorityServer,
                CaApi::new(store.clone(), Arc::clone(dispatcher))
            )
            // Anybody may send these: a request for a certificate and what a machine says of itself.
            .max_decoding_message_size(STRANGERS_MESSAGE_LIMIT),
        )
        .add_service(limited!(v1::membership_server::MembershipServer, membership))
        .add_service(limited!(v1::dispatcher_server::DispatcherServer, DispatcherApi(Arc::clone(dispatcher))))
        .add_service(store.raft().service().into_server())
        .prepare()
}
