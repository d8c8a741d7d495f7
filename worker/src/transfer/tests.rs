//! Images over real connections.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use coracle_daemon::{Clock, ManualClock, SystemClock};
use coracle_model::digest::Digest;
use coracle_model::id::{NodeId, TaskId};
use coracle_model::task::{DesiredState, TaskState};
use coracle_pki::tls::{ExpectedServer, client_config};
use coracle_pki::{SwappableIdentity, Ticket};
use coracle_proto::v1;
use coracle_proto::v1::image_transfer_client::ImageTransferClient;
use coracle_proto::v1::image_transfer_server::{ImageTransfer, ImageTransferServer};
use tokio::sync::watch;
use tokio_util::sync::DropGuard;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use super::serve::ImageTransferService;
use crate::image_use::ImageUses;
use crate::tests::manager::{FakeManager, World, now, serve};
use crate::tests::rig::{Node, eventually};

fn ticket(world: &World, node: u128, image: Digest) -> bytes::Bytes {
    let ticket = Ticket {
        node: NodeId::from_bits(node),
        manifest: *image.as_bytes(),
        expires_at: now().as_secs() + 60,
    };
    world.tickets.sign(&ticket).to_vec().into()
}

fn service(world: &World, node: &Node, clock: Arc<dyn Clock>) -> ImageTransferService {
    let key = watch::channel(Some(world.tickets.public().unwrap())).1;
    ImageTransferService::new(Arc::clone(&node.images), ImageUses::default(), key, clock)
}

async fn holder(world: &World, node: &Node, clock: Arc<dyn Clock>) -> (String, DropGuard) {
    let service = service(world, node, clock);
    serve(&node.identity, tonic::service::Routes::new(ImageTransferServer::new(service))).await
}

fn system() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

async fn client(address: &str, identity: &SwappableIdentity, holder: u128) -> ImageTransferClient<Channel> {
    let tls = client_config(identity, ExpectedServer::Node(NodeId::from_bits(holder))).unwrap();
    ImageTransferClient::new(coracle_rpc::connect::channel(address, Arc::new(tls)).await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_opens_one_image_to_one_node_and_nothing_else() {
    let world = World::new();
    let node = Node::new(&world, 7);
    let (address, _server) = holder(&world, &node, system()).await;
    let mut client = client(&address, &world.worker(8), 7).await;
    let good = ticket(&world, 8, node.image);
    let listed =
        client.list_blobs(v1::ListBlobsRequest { ticket: good.clone() }).await.unwrap().into_inner().blobs;
    assert_eq!(listed[0].digest, node.image.to_string());

    // Another image of this node: its blobs are not given for that ticket.
    let other = coracle_image::builder::ImageBuilder::new()
        .layer(coracle_image::builder::LayerBuilder::new().file("secret", 0o600, "secret"))
        .build()
        .unwrap();
    let mut archive = Vec::new();
    other.write_archive(&mut archive).unwrap();
    node.images.load_archive(&archive[..]).unwrap();
    for digest in other.blob_digests() {
        let request = v1::FetchBlobRequest { ticket: good.clone(), digest: digest.to_string() };
        let status = client.fetch_blob(request).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    }
    let mut cut = good.to_vec();
    cut.truncate(20);
    let mut forged = good.to_vec();
    forged[20] ^= 1;
    let stranger = World::new();
    let wrong = [
        ("another node's", ticket(&world, 9, node.image)),
        ("another cluster's", ticket(&stranger, 8, node.image)),
        ("cut", cut.into()),
        ("forged", forged.into()),
        ("empty", bytes::Bytes::new()),
    ];
    for (what, ticket) in wrong {
        let status = client.list_blobs(v1::ListBlobsRequest { ticket: ticket.clone() }).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{what}: {status}");
        let request = v1::FetchBlobRequest { ticket, digest: node.image.to_string() };
        assert_eq!(client.fetch_blob(request).await.unwrap_err().code(), Code::PermissionDenied, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_share_the_fetch_of_an_image_that_only_the_second_node_gives() {
    let world = World::new();
    let node = Node::new(&world, 7);
    let source = Node::new(&world, 8);
    node.images.remove(node.image).unwrap();
    let (address, _server) = holder(&world, &source, system()).await;
    let mut manager = FakeManager::start(&world, 1).await;
    let agent = node.start(&[&manager.address]).await;
    let mut session = manager.welcomed(&world).await;
    let tasks = [1, 2].map(|bits| node.task(bits, DesiredState::Running, &["run"]));
    session.complete(&tasks).await;
    // Nobody has it at first.
    let waiting = session.until(TaskId::from_bits(1), TaskState::Preparing, true).await;
    assert_eq!(waiting.error, "");
    // The first source is at a wrong address, the second is not the node it is said to be.
    let at = |node: u128, address: &str| v1::ImageSource {
        node_id: NodeId::from_bits(node).to_string(),
        address: address.to_owned(),
    };
    let sources = vec![at(9, "127.0.0.1:1"), at(9, &address), at(8, &address)];
    let response = v1::RequestImageResponse { ticket: ticket(&world, 7, node.image), sources };
    manager.give_image(&node.image.to_string(), response);
    for bits in [1, 2] {
        session.until(TaskId::from_bits(bits), TaskState::Running, true).await;
    }
    assert!(node.images.has(node.image));
    tokio::time::timeout(Duration::from_secs(10), agent.stop()).await.unwrap();
}

/// Gives what it is asked for, and lists other blobs than there are.
struct Liar(ImageTransferService);

#[tonic::async_trait]
impl ImageTransfer for Liar {
    async fn list_blobs(
        &self,
        request: Request<v1::ListBlobsRequest>,
    ) -> Result<Response<v1::ListBlobsResponse>, Status> {
        let mut response = self.0.list_blobs(request).await?.into_inner();
        response.blobs.truncate(1);
        let invented = |number: u8| v1::Blob {
            digest: Digest::from_bytes([number; 32]).to_string(),
            size: 1 << 40,
            media_type: String::new(),
        };
        response.blobs.splice(0..0, (0..200).map(invented));
        Ok(Response::new(response))
    }

    type FetchBlobStream = <ImageTransferService as ImageTransfer>::FetchBlobStream;

    async fn fetch_blob(
        &self,
        request: Request<v1::FetchBlobRequest>,
    ) -> Result<Response<Self::FetchBlobStream>, Status> {
        self.0.fetch_blob(request).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn which_blobs_are_fetched_is_what_the_manifest_says() {
    let world = World::new();
    let node = Node::new(&world, 7);
    let source = Node::new(&world, 8);
    node.images.remove(node.image).unwrap();
    let blobs = source.images.manifest_blobs(source.image).unwrap();
    node.images.collect(&std::collections::BTreeSet::new()).unwrap();
    assert!(!blobs.iter().any(|blob| node.images.has_blob(blob.digest, blob.size)));
    let honest = service(&world, &source, system());
    let routes = tonic::service::Routes::new(ImageTransferServer::new(Liar(honest)));
    let (address, _server) = serve(&source.identity, routes).await;
    let mut manager = FakeManager::start(&world, 1).await;
    let agent = node.start(&[&manager.address]).await;
    let mut session = manager.welcomed(&world).await;
    let sources = vec![v1::ImageSource { node_id: NodeId::from_bits(8).to_string(), address }];
    let response = v1::RequestImageResponse { ticket: ticket(&world, 7, node.image), sources };
    manager.give_image(&node.image.to_string(), response);
    session.complete(&[node.task(1, DesiredState::Running, &["run"])]).await;
    session.until(TaskId::from_bits(1), TaskState::Running, true).await;
    agent.stop().await;
}

/// The time of day as a manager sees it who has just signed a [`ticket`].
fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(u64::try_from(Duration::from_secs(now().as_secs()).as_nanos()).unwrap()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_ends() {
    let world = World::new();
    let node = Node::new(&world, 7);
    let clock = clock();
    let (address, _server) = holder(&world, &node, clock.clone()).await;
    let mut client = client(&address, &world.worker(8), 7).await;
    let ticket = ticket(&world, 8, node.image);
    clock.advance(Duration::from_secs(50));
    client.list_blobs(v1::ListBlobsRequest { ticket: ticket.clone() }).await.unwrap();
    clock.advance(Duration::from_secs(20));
    let status = client.list_blobs(v1::ListBlobsRequest { ticket: ticket.clone() }).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("expired"), "{status}");
    let request = v1::FetchBlobRequest { ticket, digest: node.image.to_string() };
    assert_eq!(client.fetch_blob(request).await.unwrap_err().code(), Code::PermissionDenied);
}

/// Time passes with the first blob: the ticket is over by the second.
struct Slow {
    service: ImageTransferService,
    clock: Arc<ManualClock>,
    given: Arc<Mutex<Vec<String>>>,
}

#[tonic::async_trait]
impl ImageTransfer for Slow {
    async fn list_blobs(
        &self,
        request: Request<v1::ListBlobsRequest>,
    ) -> Result<Response<v1::ListBlobsResponse>, Status> {
        self.service.list_blobs(request).await
    }

    type FetchBlobStream = <ImageTransferService as ImageTransfer>::FetchBlobStream;

    async fn fetch_blob(
        &self,
        request: Request<v1::FetchBlobRequest>,
    ) -> Result<Response<Self::FetchBlobStream>, Status> {
        let digest = request.get_ref().digest.clone();
        let response = self.service.fetch_blob(request).await?;
        let mut given = self.given.lock().unwrap();
        if given.is_empty() {
            self.clock.advance(Duration::from_secs(120));
        }
        given.push(digest);
        Ok(response)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_that_outlasts_its_ticket_goes_on_with_another_and_what_is_missing() {
    let world = World::new();
    let node = Node::new(&world, 7);
    let source = Node::new(&world, 8);
    let blobs = source.images.manifest_blobs(source.image).unwrap();
    node.images.remove(node.image).unwrap();
    node.images.collect(&std::collections::BTreeSet::new()).unwrap();
    let (clock, given) = (clock(), Arc::new(Mutex::new(Vec::new())));
    let slow = Slow {
        service: service(&world, &source, clock.clone()),
        clock: clock.clone(),
        given: Arc::clone(&given),
    };
    let (address, _server) =
        serve(&source.identity, tonic::service::Routes::new(ImageTransferServer::new(slow))).await;
    let mut manager = FakeManager::start(&world, 1).await;
    let agent = node.start(&[&manager.address]).await;
    let mut session = manager.welcomed(&world).await;
    let sources = vec![v1::ImageSource { node_id: NodeId::from_bits(8).to_string(), address }];
    let response = |ticket| v1::RequestImageResponse { ticket, sources: sources.clone() };
    let image = node.image.to_string();
    manager.give_image(&image, response(ticket(&world, 7, node.image)));
    session.complete(&[node.task(1, DesiredState::Running, &["run"])]).await;
    eventually("the ticket is over", || !given.lock().unwrap().is_empty()).await;
    let later = Ticket {
        node: NodeId::from_bits(7),
        manifest: *node.image.as_bytes(),
        expires_at: now().as_secs() + 600,
    };
    manager.give_image(&image, response(world.tickets.sign(&later).to_vec().into()));
    session.until(TaskId::from_bits(1), TaskState::Running, true).await;
    let mut given = given.lock().unwrap().clone();
    let count = given.len();
    given.sort();
    given.dedup();
    assert!(blobs.len() > 2, "an image of one blob needs no second ticket");
    assert_eq!((given.len(), count), (blobs.len(), blobs.len()), "each blob came once: {given:?}");
    agent.stop().await;
}
