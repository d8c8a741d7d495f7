//! Which images go, as managers and tasks have it.

use std::time::Duration;

use coracle_image::builder::{ImageBuilder, LayerBuilder};
use coracle_model::digest::Digest;
use coracle_model::id::TaskId;
use coracle_model::task::{DesiredState, TaskState};
use coracle_proto::v1::agent_message::Message as Up;

use super::manager::{FakeManager, PlayedSession, World};
use super::rig::{Node, RunningAgent, eventually};

const GRACE: Duration = Duration::from_millis(100);

fn load(node: &Node, content: u8) -> Digest {
    let layer = LayerBuilder::new().file("own", 0o644, vec![content; 1000]);
    let mut archive = Vec::new();
    ImageBuilder::new().layer(layer).build().unwrap().write_archive(&mut archive).unwrap();
    node.images.load_archive(&archive[..]).unwrap()[0].manifest
}

async fn start(node: &Node, manager: &FakeManager) -> RunningAgent {
    let config = node.config(&[&manager.address]);
    node.start_with(crate::AgentConfig { image_grace: GRACE, ..config }).await
}

/// Reads until managers are told that exactly these are held.
async fn until_held(session: &mut PlayedSession, images: &[Digest]) {
    let mut expected: Vec<String> = images.iter().map(ToString::to_string).collect();
    expected.sort();
    loop {
        if let Up::Images(mut held) = session.next().await.expect("the session ended") {
            held.digests.sort();
            if held.digests == expected {
                return;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_go_when_neither_tasks_nor_the_cluster_need_them() {
    let world = World::new();
    let node = Node::new(&world, 7);
    let (named, spare) = (load(&node, 1), load(&node, 2));
    let mut manager = FakeManager::start(&world, 1).await;
    let agent = start(&node, &manager).await;
    let mut session = manager.welcomed(&world).await;
    let id = TaskId::from_bits(1);
    session.complete(&[node.task(1, DesiredState::Running, &["run"])]).await;
    session.until(id, TaskState::Running, true).await;

    // The manager needs one of them, and does not know of the task's: that is for the node to say.
    manager.need_images(&[named.to_string()]);
    until_held(&mut session, &[node.image, named]).await;
    assert!(node.images.has(node.image) && node.images.has(named) && !node.images.has(spare));

    // The name is removed, the task goes.
    manager.need_images(&[]);
    until_held(&mut session, &[node.image]).await;
    session.increment(&[node.task(1, DesiredState::Shutdown, &["run"])], &[]).await;
    session.until(id, TaskState::Shutdown, true).await;
    session.increment(&[], &[id]).await;
    until_held(&mut session, &[]).await;
    let usage = node.images.disk_usage().unwrap();
    assert_eq!((usage.blob_bytes, usage.layer_bytes), (0, 0));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_answer_of_the_leader_every_image_stays() {
    let world = World::new();
    let node = Node::new(&world, 7);
    let mut manager = FakeManager::start(&world, 1).await;
    let agent = start(&node, &manager).await;
    let _session = manager.welcomed(&world).await;
    eventually("the leader is asked a few times", || manager.image_checks() > 2).await;
    assert!(node.images.has(node.image));
    agent.handle.remove_images().await;
    assert!(!node.images.has(node.image), "a node that leaves needs none");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_leaves_keeps_the_images_of_what_it_could_not_stop() {
    let world = World::new();
    let node = Node::new(&world, 7);
    let spare = load(&node, 1);
    let mut manager = FakeManager::start(&world, 1).await;
    let agent = node.start(&[&manager.address]).await;
    let mut session = manager.welcomed(&world).await;
    session.complete(&[node.task(1, DesiredState::Running, &["run"])]).await;
    session.until(TaskId::from_bits(1), TaskState::Running, true).await;
    agent.handle.remove_images().await;
    assert!(node.images.has(node.image) && !node.images.has(spare));
    agent.stop().await;
}
