//! Health checks, from the answer of a program to what managers hear.

use coracle_model::id::TaskId;
use coracle_model::task::{DesiredState, Exit, HealthState, TaskState};
use coracle_proto::v1;

use super::manager::{FakeManager, World};
use super::rig::{Node, eventually};

const RUNNING: DesiredState = DesiredState::Running;

fn id(bits: u128) -> TaskId {
    TaskId::from_bits(bits)
}

/// Checked every few milliseconds, unhealthy after three failures.
fn checked(node: &Node, bits: u128, program: &str) -> v1::AssignedTask {
    let mut task = node.task(bits, RUNNING, &["run"]);
    let test = v1::health_config::Test::Command(v1::Command { arguments: vec![program.into()] });
    task.spec.as_mut().unwrap().container.as_mut().unwrap().health =
        Some(v1::HealthConfig { test: Some(test), interval: Some(3_000_000), ..v1::HealthConfig::default() });
    task
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn managers_hear_when_a_task_serves_and_when_no_more() {
    let world = World::new();
    let node = Node::new(&world, 7);
    let mut manager = FakeManager::start(&world, 1).await;
    let agent = node.start(&[&manager.address]).await;
    let mut session = manager.welcomed(&world).await;
    let fail = Some(1);
    node.containers.answer(id(1), &[fail, fail, Some(0)]);
    node.containers.answer(id(2), &[fail, None, Some(7)]);
    let tasks = [checked(&node, 1, "probe"), checked(&node, 2, "probe"), checked(&node, 3, "refuse")];
    session.complete(&tasks).await;
    // That it is starting need not be told: what is overtaken before it was sent is not.
    let serves = session.until(id(1), TaskState::Running, true).await;
    let health = serves.health.unwrap();
    assert_eq!((health.state, health.failures, health.results.len()), (HealthState::Healthy, 0, 3));
    let failed = session.until(id(2), TaskState::Failed, true).await;
    assert_eq!(failed.error, "unhealthy: played Some(7)");
    assert_eq!((failed.exit, node.containers.count("stop", id(2))), (Some(Exit::Signal(15)), 1));
    let refused = session.until(id(3), TaskState::Failed, true).await;
    assert_eq!(refused.error, "unhealthy: played: not executable");

    // Another agent goes on where this one stopped, and needs no manager for it.
    agent.stop().await;
    drop(session);
    drop(manager);
    let checks = node.containers.count("check", id(1));
    let agent = node.start(&[]).await;
    eventually("checks go on", || node.containers.count("check", id(1)) > checks + 3).await;
    assert_eq!(node.containers.count("start", id(1)), 1);
    node.containers.answer(id(1), &[fail, fail, fail]);
    eventually("it is started again", || node.containers.count("start", id(1)) == 2).await;
    agent.stop().await;
    let mut manager = FakeManager::start(&world, 1).await;
    let agent = node.start(&[&manager.address]).await;
    let mut session = manager.welcomed(&world).await;
    session.complete(&tasks[..1]).await;
    let again = session.until(id(1), TaskState::Running, true).await;
    assert_eq!(again.local_restarts, 1);
    eventually("it serves again", || node.containers.count("check", id(1)) > checks + 8).await;
    agent.stop().await;
}
