//! Properties of `apply` and the planners over arbitrary histories.
//!
//! `World::settle` checks in every history that planning again right after applying changes nothing.
#![allow(clippy::unwrap_used, reason = "tests")]

mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use coracle_manager_core::{Change, Outcome, State, assign};
use coracle_model::id::{IdempotencyKey, NodeId};
use coracle_model::node::{Availability, NodeState};
use coracle_model::service::ServiceMode;
use coracle_model::task::{DesiredState, TaskState};
use coracle_model::version::Version;
use proptest::prelude::*;
use world::{World, build};

#[derive(Debug, Clone)]
enum Step {
    AddService { replicas: u64, global: bool, memory: u64, delay: u64 },
    Scale(usize, u64),
    Update(usize),
    RemoveService(usize),
    NodeState(usize, bool),
    Availability(usize, u8),
    RemoveNode(usize),
    Report(usize, usize),
    Agents,
    Tick(u64),
    Plan,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..6u64, any::<bool>(), 0..4u64, 0..3u64).prop_map(|(replicas, global, memory, delay)| {
            Step::AddService { replicas, global, memory, delay }
        }),
        (any::<usize>(), 0..8u64).prop_map(|(service, replicas)| Step::Scale(service, replicas)),
        any::<usize>().prop_map(Step::Update),
        any::<usize>().prop_map(Step::RemoveService),
        (any::<usize>(), any::<bool>()).prop_map(|(node, down)| Step::NodeState(node, down)),
        (any::<usize>(), 0..3u8).prop_map(|(node, availability)| Step::Availability(node, availability)),
        any::<usize>().prop_map(Step::RemoveNode),
        (any::<usize>(), 0..TaskState::ALL.len()).prop_map(|(task, state)| Step::Report(task, state)),
        Just(Step::Agents),
        (0..10u64).prop_map(Step::Tick),
        Just(Step::Plan),
        Just(Step::Plan),
    ]
}

fn pick<T: Copy>(items: &[T], at: usize) -> Option<T> {
    (!items.is_empty()).then(|| items[at % items.len()])
}

fn run(steps: &[Step]) -> World {
    let mut world = World::default();
    world.add_nodes(4);
    for step in steps {
        let services: Vec<_> = world.state.services().map(|service| service.id).collect();
        let nodes: Vec<NodeId> = world.state.nodes().map(|node| node.id).collect();
        match *step {
            Step::AddService { replicas, global, memory, delay } => {
                let mut spec = build::service_spec(&format!("s{}", world.services.len()), replicas);
                spec.task.reservations = build::resources(0, memory * build::GIB);
                spec.task.restart.delay = Duration::from_secs(delay);
                if global {
                    spec.mode = ServiceMode::Global;
                }
                world.add_service(spec);
            }
            Step::Scale(service, replicas) => {
                if let Some(service) = pick(&services, service) {
                    world.update_service(service, |spec| {
                        if let ServiceMode::Replicated { replicas: present } = &mut spec.mode {
                            *present = replicas;
                        }
                    });
                }
            }
            Step::Update(service) => {
                if let Some(service) = pick(&services, service) {
                    world.update_service(service, |spec| spec.task.force_update += 1);
                }
            }
            Step::RemoveService(service) => {
                if let Some(service) = pick(&services, service) {
                    world.write(vec![Change::RemoveService { service, expected: Version::default() }]);
                }
            }
            Step::NodeState(node, down) => {
                if let Some(node) = pick(&nodes, node) {
                    world.set_node_state(node, if down { NodeState::Down } else { NodeState::Ready });
                }
            }
            Step::Availability(node, availability) => {
                if let Some(node) = pick(&nodes, node) {
                    let all = [Availability::Active, Availability::Pause, Availability::Drain];
                    world.update_node(node, |spec| spec.availability = all[usize::from(availability)]);
                }
            }
            Step::RemoveNode(node) => {
                if let Some(node) = pick(&nodes, node) {
                    world.write(vec![Change::RemoveNode { node, expected: Version::default() }]);
                }
            }
            Step::Report(task, state) => {
                let tasks: Vec<_> = world.state.tasks().map(|task| task.id).collect();
                if let Some(task) = pick(&tasks, task).and_then(|id| world.state.task(id)).cloned() {
                    world.report(&task, TaskState::ALL[state], "");
                }
            }
            Step::Agents => world.agents_obey(),
            Step::Tick(seconds) => world.tick(Duration::from_secs(seconds)),
            Step::Plan => drop(world.settle()),
        }
    }
    world.settle();
    world
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_history_gives_the_same_state(steps in prop::collection::vec(step(), 0..40)) {
        let (one, other) = (run(&steps), run(&steps));
        prop_assert!(one.state == other.state);
        prop_assert!(State::from_records(one.state.records()).as_ref() == Ok(&one.state));
    }

    #[test]
    fn slots_and_rows_stay_consistent(steps in prop::collection::vec(step(), 0..40)) {
        let world = run(&steps);
        let mut held = BTreeMap::new();
        for task in world.state.tasks() {
            prop_assert!(world.state.task_spec(task.service, task.spec_version).is_some(), "a task without its row");
            if task.is_live() {
                prop_assert!(held.insert((task.service, task.slot), task.id).is_none(), "two live tasks in a slot");
            }
        }
        for (service, version, _) in world.state.task_specs() {
            let present = world.state.service(service).is_some_and(|service| service.spec_version == version);
            let used = world.state.tasks_of_service(service).any(|task| task.spec_version == version);
            prop_assert!(present || used, "a row that nobody refers to");
        }
    }

    #[test]
    fn a_refused_entry_leaves_the_state_unchanged(steps in prop::collection::vec(step(), 0..20), at in any::<usize>()) {
        let mut world = run(&steps);
        let before = world.state.clone();
        let bad = Change::RemoveTask { task: coracle_model::id::TaskId::from_bits(u128::MAX) };
        let good: Vec<Change> = before
            .tasks()
            .map(|task| Change::RaiseDesired { task: task.id, desired: DesiredState::Remove, service_version: Version::default() })
            .collect();
        let mut changes = good;
        changes.insert(at % (changes.len() + 1), bad);
        let (outcome, touched) = world.apply(changes);
        prop_assert!(matches!(outcome, Outcome::Refused(_)) && touched.is_empty());
        prop_assert!(before.records().skip(1).eq(world.state.records().skip(1)));
    }

    #[test]
    fn differences_of_assignments_add_up(steps in prop::collection::vec(step(), 0..30), more in prop::collection::vec(step(), 0..10)) {
        let all: Vec<Step> = steps.iter().chain(&more).cloned().collect();
        let (before, after) = (run(&steps), run(&all));
        for node in 1..=4 {
            let node = NodeId::from_bits(node);
            let (old, new) = (assign::assignments(&before.state, node), assign::assignments(&after.state, node));
            let difference = assign::difference(&old, &new);
            let mut told = old.clone();
            difference.removed.iter().for_each(|task| drop(told.remove(task)));
            difference.set.iter().for_each(|task| drop(told.insert(*task, new[task].clone())));
            prop_assert_eq!(assign::checksum(&told), assign::checksum(&new));
            prop_assert!(assign::difference(&told, &new).is_empty());
        }
    }

    #[test]
    fn tasks_are_spread_evenly(nodes in 1..8u128, replicas in 0..40u64) {
        let mut world = World::default();
        world.add_nodes(nodes);
        let service = world.add_service(build::service_spec("web", replicas));
        world.settle();
        let on = |node: u128| {
            world.state.tasks_on_node(NodeId::from_bits(node)).filter(|task| task.service == service).count()
        };
        let counts: Vec<usize> = (1..=nodes).map(on).collect();
        prop_assert_eq!(counts.iter().sum::<usize>() as u64, replicas);
        prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{:?}", counts);
    }

    #[test]
    fn a_repeated_write_is_applied_once(key: u128, name in "[a-z]{1,10}") {
        let mut world = World::default();
        let proposal = coracle_manager_core::Proposal {
            changes: vec![Change::CreateService(Box::new(build::service(7, build::service_spec(&name, 1))))],
            actor: "operator".to_owned(),
            reason: String::new(),
            time: world.now,
            idempotency: Some(IdempotencyKey::from_bits(key)),
            term: 1,
        };
        let first = world.propose(&proposal).0;
        prop_assert_eq!(first, world.propose(&proposal).0);
        prop_assert_eq!(world.state.services().count(), 1);
    }
}

#[test]
fn a_node_is_never_given_more_than_it_has() {
    let mut world = World::default();
    world.add_node(build::node(1, "n1", build::resources(build::CPU, build::GIB)));
    let mut assignments = Vec::new();
    for name in ["a", "b"] {
        let mut spec = build::service_spec(name, 1);
        spec.task.reservations = build::resources(0, build::GIB);
        let service = world.add_service(spec);
        let plan = world.plan(world::Key::Service(service));
        world.write(plan.changes);
        let task = world.task(&format!("{name}.1"));
        assignments.push(Change::AssignTask {
            generic: BTreeMap::new(),
            task: task.id,
            expected: task.version,
            node: NodeId::from_bits(1),
            node_version: Version::default(),
        });
    }
    let [first, second] = <[Change; 2]>::try_from(assignments).unwrap();
    world.write(vec![first]);
    let refusal = world.apply(vec![second]).0.into_result().unwrap_err();
    assert_eq!(refusal.kind, coracle_manager_core::RefusalKind::Stale);
    assert!(refusal.message.contains("not enough memory"), "{refusal}");
}
