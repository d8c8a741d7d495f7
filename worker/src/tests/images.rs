//! Which images go, as managers and tasks have it.

use std::time::Duration;

use coracle_image::builder::{ImageBuilder, LayerBuilder};
use coracle_model::digest::Digest;
use coracle_model::id::TaskId;
use coracle_model::task::{DesiredState, TaskState};
use coracle_proto::v1;
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

/// Mounts another image.
fn mounting(mut task: v1::AssignedTask, image: Digest) -> v1::AssignedTask {
    let image = v1::PinnedImage { reference: "files:1".into(), digest: image.to_string() };
    let kind = v1::mount::Kind::Image(v1::ImageMount { image: Some(image), subpath: String::new() });
    let container = task.spec.as_mut().unwrap().container.as_mut().unwrap();
    container.mounts = vec![v1::Mount { target: "/files".into(), read_only: true, kind: Some(kind) }];
    task
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_an_update_mounts_no_more_stays_as_long_as_its_last_task() {
    let world = World::new();
    let node = Node::new(&world, 7);
    let (old, new, spare) = (load(&node, 1), load(&node, 2), load(&node, 3));
    let mut manager = FakeManager::start(&world, 1).await;
    let agent = start(&node, &manager).await;
    let mut session = manager.welcomed(&world).await;
    manager.need_images(&[node.image, old, new, spare].map(|image| image.to_string()));
    let task = |bits, desired, image| mounting(node.task(bits, desired, &["run"]), image);
    let (before, after) = (TaskId::from_bits(1), TaskId::from_bits(2));
    session.complete(&[task(1, DesiredState::Running, old)]).await;
    session.until(before, TaskState::Running, true).await;
    // An update: the new task runs beside the old one, whose specification managers keep no longer.
    session.increment(&[task(2, DesiredState::Running, new)], &[]).await;
    session.until(after, TaskState::Running, true).await;
    manager.need_images(&[]);
    eventually("what nobody mounts goes", || !node.images.has(spare)).await;
    assert!(node.images.has(old) && node.images.has(new), "both are mounted");
    session.increment(&[task(1, DesiredState::Shutdown, old)], &[]).await;
    session.until(before, TaskState::Shutdown, true).await;
    session.increment(&[], &[before]).await;
    eventually("the old one goes", || !node.images.has(old)).await;
    assert!(node.images.has(new) && node.images.has(node.image), "the new one stays");
    agent.stop().await;
}
