//! Lists of large clusters arrive whole, over the connection that an operator has.

use coracle_manager_core::Change;
use coracle_model::digest::Digest;
use coracle_model::id::ServiceId;
use coracle_model::service::{ContainerSpec, PinnedImage, Service, ServiceMode, ServiceSpec, TaskSpec};
use coracle_model::time::Timestamp;
use coracle_model::version::Version;
use coracle_proto::v1;
use coracle_proto::v1::services_client::ServicesClient;
use coracle_proto::v1::tasks_client::TasksClient;
use prost::Message as _;

use crate::world::World;

/// What one message could have before: each list below has to be longer.
const FORMER_LIMIT: usize = 16 << 20;

fn service(bits: u128, replicas: u64, image: String, environment: Vec<String>) -> Box<Service> {
    let image = PinnedImage { reference: image, digest: Digest::from_bytes([1; 32]) };
    let mut task = TaskSpec::of(ContainerSpec::of(image));
    task.container.env = environment;
    Box::new(Service {
        id: ServiceId::from_bits(bits),
        version: Version::default(),
        spec_version: Version::default(),
        created_at: Timestamp::EPOCH,
        updated_at: Timestamp::EPOCH,
        spec: ServiceSpec::of(
            format!("web{bits}").parse().unwrap(),
            ServiceMode::Replicated { replicas },
            task,
        ),
        previous_spec: None,
        update: None,
        job: None,
        rebalance: None,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_of_many_tasks_arrives_whole() {
    const TASKS: u64 = 10_000;
    let world = World::new().await;
    let image = format!("registry.example/{}:1", "a".repeat(1_900));
    world.write(vec![Change::CreateService(service(1, TASKS, image, Vec::new()))]).await;
    world.eventually("all tasks are made", |state| state.tasks().count() as u64 == TASKS).await;

    let mut tasks =
        TasksClient::new(world.channel(Some(&world.operator()))).max_decoding_message_size(usize::MAX);
    let list = tasks.list(v1::ListTasksRequest::default()).await.unwrap().into_inner();
    assert!(list.encoded_len() > FORMER_LIMIT, "{} bytes", list.encoded_len());
    assert_eq!(list.tasks.len() as u64, TASKS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_of_large_services_arrives_whole() {
    const SERVICES: u128 = 20;
    let world = World::new().await;
    for bits in 1..=SERVICES {
        let large = vec![format!("LARGE={}", "x".repeat(1 << 20))];
        world.write(vec![Change::CreateService(service(bits, 0, "web:1".to_owned(), large))]).await;
    }

    let mut services =
        ServicesClient::new(world.channel(Some(&world.operator()))).max_decoding_message_size(usize::MAX);
    let list = services.list(v1::ListServicesRequest {}).await.unwrap().into_inner();
    assert!(list.encoded_len() > FORMER_LIMIT, "{} bytes", list.encoded_len());
    assert_eq!(list.services.len() as u128, SERVICES);
}
