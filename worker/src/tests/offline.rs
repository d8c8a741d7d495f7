//! While no manager can be reached.

use coracle_model::id::TaskId;
use coracle_model::task::{DesiredState, Exit, TaskState};
use coracle_proto::status::{ApiError, Reason};

use super::manager::{FakeManager, World};
use super::rig::{Node, eventually};
use crate::adapters::containers::Reality;

fn id(bits: u128) -> TaskId {
    TaskId::from_bits(bits)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_start_again_here_and_managers_that_return_see_the_count() {
    let world = World::new();
    let node = Node::new(&world, 7);
    let mut manager = FakeManager::start(&world, 1).await;
    let agent = node.start(&[&manager.address]).await;
    let mut session = manager.welcomed(&world).await;
    let mut once = node.task(2, DesiredState::Running, &["run"]);
    once.spec.as_mut().unwrap().restart.as_mut().unwrap().condition =
        coracle_proto::v1::RestartCondition::None.into();
    let tasks = [node.task(1, DesiredState::Running, &["run"]), once];
    session.complete(&tasks).await;
    session.until(id(1), TaskState::Running, true).await;
    session.until(id(2), TaskState::Running, true).await;
    drop(session);
    // From here on the manager answers nobody.
    drop(manager);
    node.containers.end(id(1), Exit::Code(1));
    node.containers.end(id(2), Exit::Code(4));
    eventually("the task runs again", || node.containers.count("start", id(1)) == 2).await;
    node.containers.end(id(1), Exit::Code(1));
    eventually("and again", || node.containers.count("start", id(1)) == 3).await;
    assert_eq!(node.containers.count("start", id(2)), 1);
    agent.stop().await;

    // The node restarts, without a manager: what ran runs again.
    node.containers.end(id(1), Exit::Unknown);
    let agent = node.start(&[]).await;
    eventually("it runs after the reboot", || node.containers.count("start", id(1)) == 4).await;
    agent.stop().await;

    let mut manager = FakeManager::start(&world, 1).await;
    let agent = node.start(&[&manager.address]).await;
    let mut session = manager.welcomed(&world).await;
    session.complete(&tasks).await;
    let status = session.until(id(1), TaskState::Running, true).await;
    assert_eq!(status.local_restarts, 3);
    assert!(status.message.contains("(3)"), "{}", status.message);
    let ended = session.said(id(2)).unwrap();
    assert_eq!(
        (ended.state, ended.exit),
        (TaskState::Failed, Some(Exit::Code(4))),
        "kept until it can be told"
    );
    assert!(matches!(node.containers.reality(id(1)), Reality::Running { .. }));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_removed_stops_what_it_runs() {
    let world = World::new();
    let node = Node::new(&world, 7);
    let mut manager = FakeManager::start(&world, 1).await;
    let agent = node.start(&[&manager.address]).await;
    let mut session = manager.welcomed(&world).await;
    session.complete(&[node.task(1, DesiredState::Running, &["run"])]).await;
    session.until(id(1), TaskState::Running, true).await;
    // Not to be known is not enough: the manager may not have heard of this node yet.
    manager.refuse(ApiError::new(Reason::Unauthenticated, "not a member (any more)"));
    drop(session);
    node.containers.end(id(1), Exit::Code(1));
    eventually("it is started again", || node.containers.count("start", id(1)) == 2).await;
    manager.refuse(ApiError::new(Reason::Removed, "node was removed from this cluster"));
    eventually("nothing is left", || node.containers.reality(id(1)) == Reality::Absent).await;
    assert_eq!(node.containers.count("stop", id(1)), 1, "it was asked to stop");
    agent.stop().await;
}
