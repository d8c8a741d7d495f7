//! No status is lost, whatever dies: the session, the agent, the journal.

use coracle_model::id::TaskId;
use coracle_model::task::{DesiredState, Exit, TaskState};

use super::manager::{FakeManager, World};
use super::rig::{Node, eventually};
use crate::adapters::containers::Reality;

const RUNNING: DesiredState = DesiredState::Running;

fn id(bits: u128) -> TaskId {
    TaskId::from_bits(bits)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unacknowledged_end_is_sent_again_by_the_next_session_and_the_next_agent() {
    let world = World::new();
    let node = Node::new(&world, 7);
    let mut manager = FakeManager::start(&world, 1).await;
    let agent = node.start(&[&manager.address]).await;
    let tasks = [node.task(1, RUNNING, &["run"])];
    let mut session = manager.welcomed(&world).await;
    session.complete(&tasks).await;
    session.until(id(1), TaskState::Running, true).await;
    node.containers.end(id(1), Exit::Code(3));
    session.until(id(1), TaskState::Failed, false).await;
    drop(session);

    let mut session = manager.welcomed(&world).await;
    assert_eq!(session.said(id(1)).unwrap().exit, Some(Exit::Code(3)));
    session.complete(&tasks).await;
    session.until(id(1), TaskState::Failed, false).await;
    drop(session);
    agent.stop().await;

    let agent = node.start(&[&manager.address]).await;
    let mut session = manager.welcomed(&world).await;
    session.complete(&tasks).await;
    let status = session.until(id(1), TaskState::Failed, false).await;
    assert_eq!((status.exit, status.error.as_str()), (Some(Exit::Code(3)), "exit status 3"));
    assert!(
        matches!(node.containers.reality(id(1)), Reality::Ended { .. }),
        "the proof is kept until it is acknowledged"
    );
    drop(session);
    let mut session = manager.welcomed(&world).await;
    session.complete(&tasks).await;
    session.until(id(1), TaskState::Failed, true).await;
    eventually("the acknowledged container is deleted", || node.containers.reality(id(1)) == Reality::Absent)
        .await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_while_no_agent_ran_is_reported_and_what_runs_is_left_alone() {
    let world = World::new();
    let node = Node::new(&world, 7);
    let mut manager = FakeManager::start(&world, 1).await;
    let tasks = [node.task(1, RUNNING, &["run"]), node.task(2, RUNNING, &["run"])];
    let agent = node.start(&[&manager.address]).await;
    let mut session = manager.welcomed(&world).await;
    session.complete(&tasks).await;
    session.until(id(1), TaskState::Running, true).await;
    session.until(id(2), TaskState::Running, true).await;
    agent.stop().await;
    drop(session);
    node.containers.end(id(1), Exit::OutOfMemory);

    let agent = node.start(&[&manager.address]).await;
    let mut session = manager.welcomed(&world).await;
    session.complete(&tasks).await;
    let status = session.until(id(1), TaskState::Failed, true).await;
    assert_eq!(status.error, "killed by the kernel: memory limit reached");
    session.until_synced().await;
    assert_eq!(node.containers.count("start", id(2)), 1);
    assert!(matches!(node.containers.reality(id(2)), Reality::Running { .. }));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_journal_the_managers_say_what_the_containers_are() {
    let world = World::new();
    let node = Node::new(&world, 7);
    let mut manager = FakeManager::start(&world, 1).await;
    let tasks = [node.task(1, RUNNING, &["run"]), node.task(2, RUNNING, &["run"])];
    let agent = node.start(&[&manager.address]).await;
    let mut session = manager.welcomed(&world).await;
    session.complete(&tasks).await;
    session.until(id(1), TaskState::Running, true).await;
    session.until(id(2), TaskState::Running, true).await;
    agent.stop().await;
    drop(session);
    std::fs::remove_dir_all(node.journal()).unwrap();

    let agent = node.start(&[&manager.address]).await;
    let mut session = manager.session().await;
    assert_eq!(session.said(id(1)).unwrap().state, TaskState::Running);
    assert_eq!(agent.handle.status().containers_running, 2);
    session.welcome(&world, &[]).await;
    session.complete(&tasks[..1]).await;
    session.until(id(1), TaskState::Running, true).await;
    eventually("the unknown container is gone", || node.containers.reality(id(2)) == Reality::Absent).await;
    assert_eq!(node.containers.count("start", id(1)), 1);
    assert_eq!(node.containers.count("stop", id(2)), 1, "it was asked to stop, not just killed");
    agent.stop().await;
}
