//! Plans and verdicts that land after something else has: what the view said when they were made no longer holds.
#![allow(clippy::unwrap_used, reason = "tests")]

mod world;

use std::time::Duration;

use coracle_manager_core::{Change, RefusalKind};
use coracle_model::id::NodeId;
use coracle_model::node::NodeState;
use coracle_model::service::ServiceMode;
use coracle_model::task::{DesiredState, Task, TaskState};
use coracle_model::version::Version;
use world::{Key, World, build};

/// One replica on the first of two nodes, running.
fn running() -> World {
    let mut world = World::default();
    world.add_nodes(2);
    world.add_service(build::service_spec("web", 1));
    world.converge();
    assert_eq!(world.task("web.1").node, Some(NodeId::from_bits(1)));
    world
}

fn refused(world: &mut World, changes: Vec<Change>) -> String {
    let refusal = world.apply(changes).0.into_result().unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Stale, "{refusal}");
    refusal.message
}

#[test]
fn a_successor_does_not_begin_beside_a_task_that_was_given_a_node_meanwhile() {
    let mut world = World::default();
    world.add_nodes(1);
    let service = world.add_service(build::service_spec("web", 1));
    let plan = world.plan(Key::Service(service));
    world.write(plan.changes);
    let assignment = world.plan(Key::Schedule).changes;
    world.update_service(service, |spec| spec.task.force_update += 1);
    let replacement = world.plan(Key::Service(service)).changes;
    world.write(assignment);
    assert!(refused(&mut world, replacement).contains("may still run"));
    world.settle();
    assert_eq!(world.task("web.1#2").desired, DesiredState::Ready, "it waits for the first to end");
}

#[test]
fn a_successor_does_not_begin_when_the_lost_node_came_back_meanwhile() {
    let mut world = running();
    let node = world.task("web.1").node.unwrap();
    world.set_node_state(node, NodeState::Down);
    let service = world.services["web"];
    let replacement = world.plan(Key::Service(service)).changes;
    world.set_node_state(node, NodeState::Ready);
    assert!(refused(&mut world, replacement).contains("may still run"));
    assert!(world.plan(Key::Service(service)).is_empty(), "the task runs on");
}

#[test]
fn what_is_too_many_is_not_given_up_when_more_is_wanted_meanwhile() {
    let mut world = running();
    let service = world.services["web"];
    world.update_service(service, |spec| spec.mode = ServiceMode::Replicated { replicas: 0 });
    let clearing = world.plan(Key::Service(service)).changes;
    assert_eq!(clearing, [world.want("web.1", DesiredState::Remove)]);
    world.update_service(service, |spec| spec.mode = ServiceMode::Replicated { replicas: 1 });
    assert!(refused(&mut world, clearing).contains("out of sequence"));
    assert!(world.plan(Key::Service(service)).is_empty(), "it runs on");
}

#[test]
fn a_removed_service_loses_what_was_given_up_for_another_reason() {
    let mut world = running();
    let service = world.services["web"];
    world.update_service(service, |spec| spec.mode = ServiceMode::Replicated { replicas: 0 });
    let clearing = world.plan(Key::Service(service)).changes;
    world.remove_service(service);
    world.write(clearing);
    assert_eq!(world.task("web.1").desired, DesiredState::Remove);
}

#[test]
fn a_task_is_not_started_when_the_lost_node_of_its_predecessor_came_back_meanwhile() {
    let mut world = running();
    let node = world.task("web.1").node.unwrap();
    let service = world.services["web"];
    world.update_service(service, |spec| spec.task.force_update += 1);
    let plan = world.plan(Key::Service(service));
    world.write(plan.changes);
    let replacement = world.task("web.1#2");
    assert_eq!(replacement.desired, DesiredState::Ready);
    let start = world.want("web.1#2", DesiredState::Running);
    assert!(refused(&mut world, vec![start.clone()]).contains("may still run"));
    world.set_node_state(node, NodeState::Down);
    world.write(vec![start]);
}

/// One completion of a job on the first of two nodes, which is lost.
fn job_on_a_lost_node() -> World {
    let mut world = World::default();
    world.add_nodes(2);
    let mut spec = build::service_spec("sum", 1);
    spec.mode = ServiceMode::ReplicatedJob { completions: 1, concurrent: 0 };
    world.add_service(spec);
    world.converge();
    world.set_node_state(world.task("sum.0").node.unwrap(), NodeState::Down);
    world
}

#[test]
fn work_that_a_lost_node_has_done_is_not_begun_again() {
    let mut world = job_on_a_lost_node();
    let (service, first) = (world.services["sum"], world.task("sum.0"));
    let replacement = world.plan(Key::Service(service)).changes;
    world.report(&first, TaskState::Complete, "");
    assert!(refused(&mut world, replacement).contains("is done"));
    assert!(world.settle().lines.iter().all(|line| !line.starts_with("create")), "it has completed");
}

#[test]
fn what_is_prepared_for_work_that_is_done_meanwhile_is_not_started() {
    let mut world = job_on_a_lost_node();
    let (service, first) = (world.services["sum"], world.task("sum.0"));
    let prepared: Vec<Change> = world.plan(Key::Service(service)).changes;
    let prepared = prepared.into_iter().map(|change| match change {
        Change::CreateTask { task, service_version, beside } => {
            let task = Task { desired: DesiredState::Ready, start_after: Some(world.now), ..task };
            Change::CreateTask { task, service_version, beside }
        }
        other => other,
    });
    world.write(prepared.collect());
    let start = world.plan(Key::Service(service)).changes;
    let second = world.task("sum.0#2").id;
    assert_eq!(start, [world.want("sum.0#2", DesiredState::Running)]);
    world.report(&first, TaskState::Complete, "");
    assert!(refused(&mut world, start).contains("is done"));
    world.settle();
    assert!(world.state.task(second).is_none_or(|task| !task.is_live()), "it is given up");
}

#[test]
fn a_node_is_not_ready_before_what_was_given_up_there_has_ended() {
    let mut world = running();
    let lost = world.task("web.1");
    let node = lost.node.unwrap();
    world.set_node_state(node, NodeState::Down);
    // The verdict was slow: the node has a session again, and said that it is in step, before its task was given up.
    world.settle();
    world.set_node_state(node, NodeState::Ready);
    assert_eq!(world.state.node(node).unwrap().status.state, NodeState::Down);
    world.report(&lost, TaskState::Shutdown, "");
    world.set_node_state(node, NodeState::Ready);
    assert_eq!(world.state.node(node).unwrap().status.state, NodeState::Ready);
}

#[test]
fn a_node_gets_no_more_tasks_of_a_service_than_it_may_have() {
    let mut world = World::default();
    world.add_nodes(1);
    let mut spec = build::service_spec("web", 2);
    spec.task.placement.max_replicas_per_node = 1;
    let service = world.add_service(spec);
    let plan = world.plan(Key::Service(service));
    world.write(plan.changes);
    let assign = |task: Task| Change::AssignTask {
        task: task.id,
        expected: task.version,
        node: NodeId::from_bits(1),
        node_version: Version::default(),
        generic: std::collections::BTreeMap::new(),
    };
    let (first, second) = (assign(world.task("web.1")), assign(world.task("web.2")));
    world.write(vec![first]);
    assert!(refused(&mut world, vec![second]).contains("has 1 tasks"));
    world.tick(Duration::from_secs(1));
    assert!(world.plan(Key::Schedule).is_empty());
}

/// Two services with one task each, and an assignment of both tasks to the one node, planned before either was applied.
fn contenders(
    mut node: coracle_model::node::Node,
    change: impl Fn(&mut coracle_model::service::ServiceSpec),
    given: [&[(&str, &str)]; 2],
) -> (World, [Change; 2]) {
    node.status.state = NodeState::Ready;
    let mut world = World::default();
    world.add_node(node);
    let assignments = ["a", "b"].into_iter().zip(given).map(|(name, given)| {
        let mut spec = build::service_spec(name, 1);
        change(&mut spec);
        let service = world.add_service(spec);
        let plan = world.plan(Key::Service(service));
        world.write(plan.changes);
        let task = world.task(&format!("{name}.1"));
        let own = |(kind, name): &(&str, &str)| ((*kind).to_owned(), vec![(*name).to_owned()]);
        Change::AssignTask {
            task: task.id,
            expected: task.version,
            node: NodeId::from_bits(1),
            node_version: Version::default(),
            generic: given.iter().map(own).collect(),
        }
    });
    let assignments: Vec<Change> = assignments.collect();
    (world, assignments.try_into().unwrap())
}

fn machine() -> coracle_model::node::Node {
    use coracle_model::resources::GenericResource;
    let mut node = build::node(1, "n1", build::resources(build::CPU, build::GIB));
    let cards = ["x", "y"].map(str::to_owned).into_iter().collect();
    node.description.generic =
        [("GPU".to_owned(), GenericResource::Named(cards)), ("SSD".to_owned(), GenericResource::Count(3))]
            .into();
    node
}

#[test]
fn a_port_of_a_node_is_not_given_twice() {
    use coracle_model::placement::{HostPort, Protocol};
    let port = |spec: &mut coracle_model::service::ServiceSpec| {
        spec.task.placement.host_ports.insert(HostPort { port: 80, protocol: Protocol::Tcp });
    };
    let (mut world, [first, second]) = contenders(machine(), port, [&[], &[]]);
    world.write(vec![first]);
    assert!(refused(&mut world, vec![second]).contains("port 80/tcp of node"));
}

#[test]
fn a_named_thing_is_not_given_twice_nor_one_that_is_not_there() {
    let card = |spec: &mut coracle_model::service::ServiceSpec| {
        spec.task.generic.insert("GPU".to_owned(), 1);
    };
    let (mut world, [first, second]) = contenders(machine(), card, [&[("GPU", "x")], &[("GPU", "x")]]);
    world.write(vec![first]);
    assert!(refused(&mut world, vec![second]).contains("is not what task"));
    for given in [&[("GPU", "z")][..], &[("SSD", "1")], &[("GPU", "x"), ("SSD", "1")], &[]] {
        let (mut world, [first, _]) = contenders(machine(), card, [given, &[]]);
        assert!(refused(&mut world, vec![first]).contains("is not what task"), "{given:?}");
    }
}

#[test]
fn counted_things_are_not_given_beyond_their_number() {
    let disks = |spec: &mut coracle_model::service::ServiceSpec| {
        spec.task.generic.insert("SSD".to_owned(), 2);
    };
    let (mut world, [first, second]) = contenders(machine(), disks, [&[("SSD", "2")], &[("SSD", "2")]]);
    world.write(vec![first]);
    assert!(refused(&mut world, vec![second]).contains("not enough SSD"));
}

#[test]
fn tasks_that_keep_apart_do_not_come_together() {
    let apart = |spec: &mut coracle_model::service::ServiceSpec| {
        spec.labels.insert("noisy".to_owned(), String::new());
        spec.task.placement.away_from.insert("noisy".parse().unwrap());
    };
    let (mut world, [first, second]) = contenders(machine(), apart, [&[], &[]]);
    world.write(vec![first]);
    assert!(refused(&mut world, vec![second]).contains("keep apart"));
}
