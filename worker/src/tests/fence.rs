//! A leader of an older term is not listened to, also after a restart of the agent.

use std::time::Duration;

use coracle_model::id::TaskId;
use coracle_model::task::{DesiredState, TaskState};

use super::manager::{FakeManager, World};
use super::rig::{Node, eventually};
use crate::adapters::containers::Reality;

const BEAT: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_leader_stops_nothing() {
    let world = World::new();
    let node = Node::new(&world, 7);
    let task = TaskId::from_bits(1);
    let mut manager = FakeManager::start(&world, 1).await;
    let own = [manager.address.clone()];
    let agent = node.start(&[&manager.address]).await;
    let mut session = manager.session().await;
    session.welcome_in(&world, &own, BEAT, 5).await;
    session.complete(&[node.task(1, DesiredState::Running, &["run"])]).await;
    session.until(task, TaskState::Running, true).await;
    drop(session);

    // One that was deposed and does not know it: what it would have stopped runs on, and it learns nothing.
    let mut older = manager.session().await;
    older.welcome_in(&world, &own, BEAT, 4).await;
    assert!(older.next().await.is_none(), "the agent hangs up");
    drop(older);
    agent.stop().await;

    let agent = node.start(&[&manager.address]).await;
    let mut older = manager.session().await;
    older.welcome_in(&world, &own, BEAT, 4).await;
    assert!(older.next().await.is_none(), "the next agent knows the term, too");
    assert!(matches!(node.containers.reality(task), Reality::Running { .. }));
    drop(older);

    let mut newer = manager.session().await;
    newer.welcome_in(&world, &own, BEAT, 6).await;
    newer.complete(&[]).await;
    newer.until_synced().await;
    eventually("the present leader is obeyed", || node.containers.reality(task) == Reality::Absent).await;
    agent.stop().await;
}
