//! What holds of every placement, whatever the nodes and services.
#![allow(clippy::unwrap_used, reason = "tests")]

mod world;

use std::collections::{BTreeMap, BTreeSet};

use coracle_manager_core::State;
use coracle_model::id::{NodeId, ServiceId};
use coracle_model::node::Node;
use coracle_model::placement::{HostPort, Placement, Protocol, Strategy as Order};
use coracle_model::resources::{GenericResource, Resources};
use coracle_model::service::ServiceMode;
use coracle_model::task::TaskState;
use proptest::prelude::*;
use world::{World, build};

#[derive(Debug, Clone)]
struct Machine {
    cpu: u64,
    zone: u8,
    rack: u8,
    cards: u8,
    disks: u64,
}

#[derive(Debug, Clone)]
struct Wish {
    replicas: u64,
    cpu: u64,
    cards: u64,
    disks: u64,
    port: Option<u16>,
    most: u64,
    label: u8,
    away: Option<u8>,
    preferences: usize,
    binpack: bool,
}

fn machine() -> impl Strategy<Value = Machine> {
    (0..5u64, 0..4u8, 0..3u8, 0..3u8, 0..4u64).prop_map(|(cpu, zone, rack, cards, disks)| Machine {
        cpu,
        zone,
        rack,
        cards,
        disks,
    })
}

fn wish() -> impl Strategy<Value = Wish> {
    let claims = (0..3u64, 0..3u64, prop::option::of(1..3u16));
    let place = (0..3u64, 0..4u8, prop::option::weighted(0.3, 0..4u8), 0..3usize, any::<bool>());
    (0..8u64, 0..3u64, claims, place).prop_map(
        |(replicas, cpu, (cards, disks, port), (most, label, away, preferences, binpack))| Wish {
            replicas,
            cpu,
            cards,
            disks,
            port,
            most,
            label,
            away,
            preferences,
            binpack,
        },
    )
}

fn add_machine(world: &mut World, number: u128, machine: &Machine) {
    let mut node =
        build::node(number, &format!("n{number}"), build::resources(machine.cpu * build::CPU, build::GIB));
    // Zero stands for a node without the label, or without the things.
    for (key, value) in [("zone", machine.zone), ("rack", machine.rack)] {
        if value > 0 {
            node.spec.labels.insert(key.to_owned(), value.to_string());
        }
    }
    if machine.cards > 0 {
        let names = (0..machine.cards).map(|card| format!("n{number}-{card}")).collect();
        node.description.generic.insert("card".to_owned(), GenericResource::Named(names));
    }
    if machine.disks > 0 {
        node.description.generic.insert("disk".to_owned(), GenericResource::Count(machine.disks));
    }
    world.add_node(node);
}

fn add_wish(world: &mut World, number: usize, wish: &Wish) -> ServiceId {
    let mut spec = build::service_spec(&format!("s{number}"), wish.replicas);
    spec.labels.insert(format!("l{}", wish.label), String::new());
    spec.task.reservations = build::resources(wish.cpu * build::CPU, 0);
    for (kind, count) in [("card", wish.cards), ("disk", wish.disks)] {
        if count > 0 {
            spec.task.generic.insert(kind.to_owned(), count);
        }
    }
    let preferences = ["spread=node.labels.zone", "spread=node.labels.rack"];
    spec.task.placement = Placement {
        preferences: preferences[..wish.preferences].iter().map(|text| text.parse().unwrap()).collect(),
        max_replicas_per_node: wish.most,
        strategy: if wish.binpack { Order::Binpack } else { Order::Spread },
        away_from: wish.away.iter().map(|label| format!("l{label}").parse().unwrap()).collect(),
        host_ports: wish.port.iter().map(|port| HostPort { port: *port, protocol: Protocol::Tcp }).collect(),
        ..Placement::default()
    };
    world.add_service(spec)
}

/// Looks at the tasks alone, not at what the state keeps of them.
fn check(state: &State, node: &Node) {
    let tasks: Vec<_> = state.tasks_on_node(node.id).filter(|task| task.may_run()).collect();
    let spec = |task: &coracle_model::task::Task| state.task_spec(task.service, task.spec_version).unwrap();
    let reserved = tasks.iter().fold(Resources::default(), |sum, task| sum.plus(spec(task).reservations));
    assert!(reserved.cpu <= node.description.resources.cpu, "too many processors of {}", node.id);

    let (mut ports, mut names, mut disks) = (BTreeSet::new(), BTreeSet::new(), 0);
    let mut live: BTreeMap<ServiceId, u64> = BTreeMap::new();
    for task in &tasks {
        let spec = spec(task);
        for port in &spec.placement.host_ports {
            assert!(ports.insert(*port), "port {port} twice on {}", node.id);
        }
        let cards = task.generic.get("card").cloned().unwrap_or_default();
        assert_eq!(cards.len() as u64, spec.generic.get("card").copied().unwrap_or(0));
        for card in cards {
            assert!(names.insert(card.clone()), "card {card} twice on {}", node.id);
        }
        disks += spec.generic.get("disk").copied().unwrap_or(0);
        *live.entry(task.service).or_default() += u64::from(task.is_live());
    }
    match node.description.generic.get("card") {
        Some(GenericResource::Named(has)) => assert!(names.is_subset(has), "cards that are not there"),
        _ => assert!(names.is_empty(), "cards where there are none"),
    }
    let has = node.description.generic.get("disk").map_or(0, GenericResource::count);
    assert!(disks <= has, "{disks} of {has} disks on {}", node.id);

    for (id, count) in live {
        let Some(service) = state.service(id) else { continue };
        let most = service.spec.task.placement.max_replicas_per_node;
        assert!(most == 0 || count <= most, "{count} tasks of {id} on {}", node.id);
    }
    for (at, one) in tasks.iter().enumerate() {
        for other in tasks.iter().skip(at + 1) {
            let pair = state.service(one.service).zip(state.service(other.service));
            let avoids = pair.is_some_and(|(one, other)| {
                let avoids = |a: &coracle_model::service::Service, b: &coracle_model::service::Service| {
                    a.spec.task.placement.away_from.iter().any(|label| label.matches(&b.spec.labels))
                };
                avoids(one, other) || avoids(other, one)
            });
            assert!(!avoids, "tasks that are to be apart are together on {}", node.id);
        }
    }
}

fn check_all(state: &State) {
    state.nodes().for_each(|node| check(state, node));
}

/// Tasks of the service in each branch, also in those without any.
fn branches<'a>(
    state: &'a State,
    service: ServiceId,
    nodes: impl Iterator<Item = &'a Node>,
    branch: impl Fn(&Node) -> String,
) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for node in nodes {
        let tasks =
            state.tasks_on_node(node.id).filter(|task| task.service == service && task.is_live()).count();
        *counts.entry(branch(node)).or_default() += tasks;
    }
    counts
}

fn assert_even(counts: &BTreeMap<String, usize>) {
    let (most, fewest) = (counts.values().max(), counts.values().min());
    assert!(most.zip(fewest).is_none_or(|(most, fewest)| most - fewest <= 1), "{counts:?}");
}

fn label(node: &Node, key: &str) -> String {
    node.spec.labels.get(key).cloned().unwrap_or_default()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_given_twice(
        machines in prop::collection::vec(machine(), 1..6),
        wishes in prop::collection::vec(wish(), 1..6),
        ended in prop::collection::vec(any::<usize>(), 0..6),
    ) {
        let mut world = World::default();
        for (number, machine) in (1..).zip(&machines) {
            add_machine(&mut world, number, machine);
        }
        for (number, wish) in wishes.iter().enumerate() {
            add_wish(&mut world, number, wish);
            world.settle();
            check_all(&world.state);
        }
        for at in ended {
            let tasks: Vec<_> = world.state.tasks().filter(|task| task.may_run()).cloned().collect();
            if let Some(task) = tasks.get(at % tasks.len().max(1)) {
                world.report(task, TaskState::Failed, "");
                world.settle();
                check_all(&world.state);
            }
        }
        // What a node takes up is known to a manager that began from a snapshot, too.
        prop_assert!(State::from_records(world.state.records()).as_ref() == Ok(&world.state));
    }

    #[test]
    fn branches_of_preferences_differ_by_one_at_most(
        machines in prop::collection::vec(machine(), 1..12),
        replicas in 0..40u64,
        other in 0..6u64,
    ) {
        let mut world = World::default();
        for (number, machine) in (1..).zip(&machines) {
            add_machine(&mut world, number, machine);
        }
        world.add_service(build::service_spec("other", other));
        world.settle();
        let mut spec = build::service_spec("web", replicas);
        spec.task.placement.preferences =
            ["spread=node.labels.zone", "spread=node.labels.rack"].map(|text| text.parse().unwrap()).to_vec();
        let service = world.add_service(spec);
        world.settle();
        let state = &world.state;
        let nodes = || state.nodes().map(|node| &**node);
        prop_assert_eq!(state.pending_count(), 0);
        let zones = branches(state, service, nodes(), |node| label(node, "zone"));
        assert_even(&zones);
        for zone in zones.keys() {
            let within = || nodes().filter(|node| label(node, "zone") == *zone);
            let racks = branches(state, service, within(), |node| label(node, "rack"));
            assert_even(&racks);
            for rack in racks.keys() {
                let alike = within().filter(|node| label(node, "rack") == *rack);
                assert_even(&branches(state, service, alike, |node| node.id.to_string()));
            }
        }
    }

    #[test]
    fn binpack_begins_no_node_while_another_has_room(nodes in 1..8u128, replicas in 0..30u64) {
        let mut world = World::default();
        world.add_nodes(nodes);
        let mut spec = build::service_spec("web", replicas);
        spec.task.reservations = build::resources(build::CPU, 0);
        spec.task.placement.strategy = Order::Binpack;
        world.add_service(spec);
        world.settle();
        let on = |node: u128| world.state.usage(NodeId::from_bits(node)).tasks;
        let part_full = (1..=nodes).filter(|node| (1..4).contains(&on(*node))).count();
        prop_assert!(part_full <= 1, "{:?}", (1..=nodes).map(on).collect::<Vec<_>>());
    }
}

#[test]
fn a_service_that_is_on_many_nodes_still_finds_the_others() {
    let mut world = World::default();
    world.add_nodes(100);
    let mut spec = build::service_spec("web", 100);
    spec.task.placement.max_replicas_per_node = 1;
    let service = world.add_service(spec);
    world.settle();
    for number in 101..=140 {
        world.add_node(build::node(number, &format!("n{number}"), build::resources(build::CPU, build::GIB)));
    }
    world.update_service(service, |spec| spec.mode = ServiceMode::Replicated { replicas: 140 });
    world.settle();
    assert_eq!(world.state.pending_count(), 0);
}
