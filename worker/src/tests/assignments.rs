//! Hello, complete sets, increments, and everything that makes a session begin again.

use coracle_model::id::TaskId;
use coracle_model::role::Role;
use coracle_model::task::{DesiredState, TaskState};
use coracle_proto::v1;
use coracle_proto::v1::agent_message::Message as Up;
use coracle_proto::v1::manager_message::Message as Down;

use super::manager::{FakeManager, World};
use super::rig::{Node, eventually};
use crate::adapters::containers::Reality;

const RUNNING: DesiredState = DesiredState::Running;

fn id(bits: u128) -> TaskId {
    TaskId::from_bits(bits)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_are_run_prepared_raised_and_removed() {
    let world = World::new();
    let node = Node::new(&world, 7);
    let mut manager = FakeManager::start(&world, 1).await;
    let agent = node.start(&[&manager.address]).await;
    let mut session = manager.welcomed(&world).await;
    let hello = &session.hello;
    assert_eq!(hello.description.as_ref().unwrap().hostname, "under-test");
    assert_eq!(hello.images.as_ref().unwrap().digests, [node.image.to_string()]);
    assert!(hello.tasks.is_empty());

    let ready = node.task(2, DesiredState::Ready, &["run"]);
    session.complete(&[node.task(1, RUNNING, &["run"]), ready]).await;
    assert_eq!(session.until_synced().await, 1);
    session.until(id(1), TaskState::Running, true).await;
    session.until(id(2), TaskState::Ready, true).await;
    assert_eq!(node.containers.reality(id(2)), Reality::Created);
    eventually("one container is counted", || agent.handle.status().containers_running == 1).await;
    assert_eq!(agent.handle.status().session_with.as_deref(), Some(manager.address.as_str()));
    assert_eq!(agent.handle.node_updates().borrow().unwrap().role, Role::Worker);

    let raised = [node.task(2, RUNNING, &["run"]), node.task(1, DesiredState::Shutdown, &["run"])];
    session.increment(&raised, &[]).await;
    session.until(id(2), TaskState::Running, true).await;
    let stopped = session.until(id(1), TaskState::Shutdown, true).await;
    assert_eq!(stopped.error, "");
    // Acknowledged, so the container is gone; the record goes when the task does.
    eventually("the stopped container is deleted", || node.containers.reality(id(1)) == Reality::Absent)
        .await;
    session.increment(&[], &[id(1), id(2)]).await;
    eventually("nothing is left", || node.containers.reality(id(2)) == Reality::Absent).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_and_refusals_say_why() {
    let world = World::new();
    let node = Node::new(&world, 7);
    let mut manager = FakeManager::start(&world, 1).await;
    let agent = node.start(&[&manager.address]).await;
    let mut session = manager.welcomed(&world).await;
    let mut odd = node.task(5, RUNNING, &["run"]);
    odd.spec.as_mut().unwrap().network = 99;
    let mut named = node.task(6, RUNNING, &["run"]);
    named.spec.as_mut().unwrap().container.as_mut().unwrap().hostname =
        "{{.Node.Hostname}}{{index .Service.Labels `end`}}".into();
    named.service_labels.insert("end".into(), "-".into());
    let tasks = [
        node.task(1, RUNNING, &["refuse"]),
        node.task(2, RUNNING, &["broken"]),
        node.task(3, RUNNING, &["exit", "3"]),
        node.task(4, RUNNING, &["exit", "0"]),
        odd,
        named,
    ];
    session.complete(&tasks).await;
    let named = session.until(id(6), TaskState::Rejected, true).await;
    assert!(
        named.error.starts_with("hostname: invalid value \"under-test-\": use letters"),
        "{}",
        named.error
    );
    let refused = session.until(id(1), TaskState::Rejected, true).await;
    assert!(refused.error.contains("bind source path does not exist"), "{}", refused.error);
    session.until(id(5), TaskState::Rejected, true).await;
    let broken = session.until(id(2), TaskState::Failed, true).await;
    assert_eq!(broken.error, "executing the program: no such file");
    assert_eq!(session.until(id(3), TaskState::Failed, true).await.error, "exit status 3");
    assert_eq!(session.until(id(4), TaskState::Complete, true).await.error, "");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gaps_wrong_sums_and_silence_begin_the_session_again() {
    let world = World::new();
    let node = Node::new(&world, 7);
    let mut manager = FakeManager::start(&world, 1).await;
    let agent = node.start(&[&manager.address]).await;
    let mut session = manager.welcomed(&world).await;
    session.complete(&[node.task(1, RUNNING, &["run"])]).await;
    session.until(id(1), TaskState::Running, true).await;

    // A message is lost.
    session.sequence += 1;
    session.increment(&[node.task(2, RUNNING, &["run"])], &[]).await;
    let mut session = manager.welcomed(&world).await;
    assert_eq!(session.said(id(1)).unwrap().state, TaskState::Running);

    // The set is another one.
    session.complete(&[node.task(1, RUNNING, &["run"])]).await;
    session.tasks.insert(id(9), RUNNING);
    session.increment(&[], &[]).await;
    let mut session = manager.session().await;
    let often = std::time::Duration::from_millis(200);
    session.welcome_beating(&world, std::slice::from_ref(&manager.address), often).await;

    // The manager is there and does not answer.
    session.complete(&[node.task(1, RUNNING, &["run"])]).await;
    session.stop_answering_heartbeats();
    let mut session = manager.welcomed(&world).await;
    session.complete(&[node.task(1, RUNNING, &["run"])]).await;
    session.until_synced().await;
    assert_eq!(node.containers.count("start", id(1)), 1, "the container was left alone");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirection_leads_to_the_leader_and_managers_are_remembered() {
    let world = World::new();
    let node = Node::new(&world, 7);
    let mut follower = FakeManager::start(&world, 1).await;
    let mut leader = FakeManager::start(&world, 2).await;
    let agent = node.start(&[&follower.address]).await;
    let session = follower.session().await;
    session.send(Down::Redirect(v1::Redirect { leader: leader.address.clone() })).await;
    let session = leader.welcomed(&world).await;
    eventually("the leader is known", || {
        agent.handle.status().session_with.as_deref() == Some(&leader.address)
    })
    .await;
    eventually("managers are known", || agent.handle.status().managers == [leader.address.clone()]).await;
    agent.stop().await;
    drop(session);
    // The next agent is told of nobody and finds the leader.
    let agent = node.start(&[]).await;
    leader.session().await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_returning_node_is_in_step_only_when_stale_tasks_have_stopped() {
    let world = World::new();
    let node = Node::new(&world, 7);
    let mut manager = FakeManager::start(&world, 1).await;
    let agent = node.start(&[&manager.address]).await;
    let mut session = manager.welcomed(&world).await;
    let tasks = [
        node.task(1, RUNNING, &["stubborn"]),
        node.task(2, RUNNING, &["run"]),
        node.task(3, RUNNING, &["run"]),
    ];
    session.complete(&tasks).await;
    for bits in 1..=3 {
        session.until(id(bits), TaskState::Running, true).await;
    }
    drop(session);
    let mut session = manager.welcomed(&world).await;
    // The first is given up, the second not even known any more.
    session
        .complete(&[node.task(1, DesiredState::Shutdown, &["stubborn"]), node.task(3, RUNNING, &["run"])])
        .await;
    session.until_synced().await;
    assert!(session.seen(id(1), TaskState::Shutdown), "it stopped before the node was in step");
    assert!(!matches!(node.containers.reality(id(2)), Reality::Running { .. }));
    assert!(matches!(node.containers.reality(id(3)), Reality::Running { .. }));
    assert_eq!(node.containers.count("kill", id(1)), 1);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_that_come_and_logs_that_are_asked_for_are_told() {
    let world = World::new();
    let node = Node::new(&world, 7);
    let mut manager = FakeManager::start(&world, 1).await;
    let agent = node.start(&[&manager.address]).await;
    let mut session = manager.welcomed(&world).await;
    node.images.remove(node.image).unwrap();
    agent.handle.images_changed();
    let Some(Up::Images(held)) = session.next().await else { panic!("no word of the images") };
    assert!(held.digests.is_empty());
    node.images.load_archive(&super::rig::image_archive()[..]).unwrap();
    session.complete(&[node.task(1, RUNNING, &["run"])]).await;
    session.until(id(1), TaskState::Running, true).await;
    let subscription = |id: &str, follow| {
        let tasks = [1, 77].map(|bits| TaskId::from_bits(bits).to_string()).to_vec();
        Down::SubscribeLogs(v1::LogSubscription { id: id.into(), tasks, follow, tail: -1, since: 0 })
    };
    for (name, follow) in [("once", false), ("on", true)] {
        session.send(subscription(name, follow)).await;
        let mut texts = Vec::new();
        assert_eq!(manager.logs.recv().await.unwrap().subscription, name);
        while texts.len() < 2 {
            texts.extend(manager.logs.recv().await.unwrap().lines.into_iter().map(|line| line.text));
        }
        assert_eq!(texts, ["first", "second"]);
    }
    session.send(Down::CancelLogs(v1::LogCancel { id: "on".into() })).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaving_stops_and_deletes_everything() {
    let world = World::new();
    let node = Node::new(&world, 7);
    let mut manager = FakeManager::start(&world, 1).await;
    let agent = node.start(&[&manager.address]).await;
    let mut session = manager.welcomed(&world).await;
    session.complete(&[node.task(1, RUNNING, &["stubborn"]), node.task(2, RUNNING, &["run"])]).await;
    session.until(id(1), TaskState::Running, true).await;
    session.until(id(2), TaskState::Running, true).await;
    agent.handle.stop_all_tasks(std::time::Duration::from_millis(50)).await;
    assert_eq!(node.containers.reality(id(1)), Reality::Absent);
    assert_eq!(node.containers.reality(id(2)), Reality::Absent);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_over_one_task_loses_neither_it_nor_others() {
    let world = World::new();
    let node = Node::new(&world, 7);
    let mut manager = FakeManager::start(&world, 1).await;
    let agent = node.start(&[&manager.address]).await;
    let mut session = manager.welcomed(&world).await;
    session.complete(&[node.task(1, RUNNING, &["panic"]), node.task(2, RUNNING, &["run"])]).await;
    session.until(id(1), TaskState::Running, true).await;
    session.until(id(2), TaskState::Running, true).await;
    session.increment(&[node.task(1, DesiredState::Shutdown, &["panic"])], &[]).await;
    session.until(id(1), TaskState::Shutdown, true).await;
    assert_eq!((node.containers.count("start", id(1)), node.containers.count("wait", id(1))), (1, 2));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_is_not_forgotten_before_its_container_is_deleted() {
    let world = World::new();
    let node = Node::new(&world, 7);
    let mut manager = FakeManager::start(&world, 1).await;
    let agent = node.start(&[&manager.address]).await;
    let mut session = manager.welcomed(&world).await;
    session.complete(&[node.task(1, RUNNING, &["sticky"])]).await;
    session.until(id(1), TaskState::Running, true).await;
    session.increment(&[], &[id(1)]).await;
    eventually("it is deleted at last", || node.containers.reality(id(1)) == Reality::Absent).await;
    assert!(node.containers.count("delete", id(1)) >= 2);
    agent.stop().await;
}
