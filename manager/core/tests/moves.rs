//! Rebalances of arbitrary services on arbitrary nodes: every move evens out, so that they end and none is undone.
#![allow(clippy::unwrap_used, reason = "tests")]

mod world;

use std::collections::{BTreeMap, BTreeSet};

use coracle_manager_core::State;
use coracle_manager_core::orchestrate::preview;
use coracle_manager_core::schedule::relocate::Relocation;
use coracle_model::id::{NodeId, ServiceId};
use coracle_model::node::Availability;
use coracle_model::placement::{SpreadOver, Strategy as PlacementStrategy};
use proptest::prelude::*;
use world::{World, build};

#[derive(Debug, Clone)]
struct Case {
    replicas: u64,
    /// Nodes that are there when the service is created, and that come later: each with its values of two labels.
    first: Vec<(u8, u8)>,
    later: Vec<(u8, u8)>,
    preferences: usize,
    skew: u64,
    per_node: u64,
    binpack: bool,
    /// Processors that each task sets aside; nodes have four.
    cpus: u64,
    paused: Option<usize>,
}

fn case() -> impl Strategy<Value = Case> {
    let nodes = |range| prop::collection::vec((0u8..3, 0u8..2), range);
    let limits = (0usize..3, 1u64..4, prop_oneof![Just(0u64), 3u64..9], any::<bool>(), 0u64..3);
    (1u64..20, nodes(1..4), nodes(0..5), limits, prop::option::of(0usize..8)).prop_map(
        |(replicas, first, later, (preferences, skew, per_node, binpack, cpus), paused)| Case {
            replicas,
            first,
            later,
            preferences,
            skew,
            per_node,
            binpack,
            cpus,
            paused,
        },
    )
}

fn add(world: &mut World, (zone, rack): (u8, u8)) -> NodeId {
    let number = world.nodes.len() as u128 + 1;
    let mut node =
        build::node(number, &format!("n{number}"), build::resources(4 * build::CPU, 8 * build::GIB));
    node.spec.labels.insert("zone".to_owned(), zone.to_string());
    node.spec.labels.insert("rack".to_owned(), rack.to_string());
    let id = node.id;
    world.add_node(node);
    id
}

fn preferences(case: &Case) -> Vec<SpreadOver> {
    let labels = ["spread=node.labels.zone", "spread=node.labels.rack"];
    labels.iter().take(case.preferences).map(|label| label.parse().unwrap()).collect()
}

/// The world with the service running as it was placed before the other nodes came.
fn world(case: &Case) -> (World, ServiceId) {
    let mut world = World::default();
    for labels in &case.first {
        add(&mut world, *labels);
    }
    let mut spec = build::service_spec("web", case.replicas);
    spec.task.placement.preferences = preferences(case);
    spec.task.placement.max_replicas_per_node = case.per_node;
    spec.task.reservations.cpu.0 = case.cpus * build::CPU / 2;
    spec.rebalance.max_skew = case.skew;
    if case.binpack {
        spec.task.placement.strategy = PlacementStrategy::Binpack;
    }
    let service = world.add_service(spec);
    world.converge();
    let later: Vec<NodeId> = case.later.iter().map(|labels| add(&mut world, *labels)).collect();
    if let Some(node) = case.paused.and_then(|at| later.get(at)) {
        world.update_node(*node, |spec| spec.availability = Availability::Pause);
    }
    (world, service)
}

/// How uneven the service is: at the first label, the next, and among nodes. Less is better, the first counts most.
fn unevenness(state: &State, preferences: &[SpreadOver], on_nodes: &BTreeMap<NodeId, u64>) -> Vec<u64> {
    let of_level = |levels: usize| {
        let mut sums: BTreeMap<Vec<String>, u64> = BTreeMap::new();
        for node in state.nodes() {
            let tasks = on_nodes.get(&node.id).copied().unwrap_or_default();
            let mut path: Vec<String> = preferences
                .iter()
                .take(levels)
                .map(|preference| preference.branch(node).to_owned())
                .collect();
            if levels > preferences.len() {
                path.push(node.id.to_string());
            }
            *sums.entry(path).or_default() += tasks;
        }
        sums.values().map(|tasks| tasks * tasks).sum()
    };
    (1..=preferences.len() + 1).map(of_level).collect()
}

fn check(case: &Case) -> Result<(), TestCaseError> {
    let (world, service) = world(case);
    let moves: Vec<Relocation> = preview(&world.state, service, Some(200));
    prop_assert!(moves.len() < 200, "moves do not end: {moves:?}");
    let mut on_nodes: BTreeMap<NodeId, u64> = BTreeMap::new();
    for node in
        world.state.tasks_of_service(service).filter(|task| task.is_live()).filter_map(|task| task.node)
    {
        *on_nodes.entry(node).or_default() += 1;
    }
    let preferences = preferences(case);
    let mut moved = BTreeSet::new();
    for next in &moves {
        let before = unevenness(&world.state, &preferences, &on_nodes);
        *on_nodes.get_mut(&next.from).unwrap() -= 1;
        *on_nodes.entry(next.to).or_default() += 1;
        let after = unevenness(&world.state, &preferences, &on_nodes);
        prop_assert!(after < before, "{next:?} evens nothing out: {before:?} to {after:?}");
        let again = !moved.insert(next.task);
        prop_assert!(!(again && preferences.is_empty()), "{next:?} is moved twice");
        prop_assert!(case.per_node == 0 || on_nodes[&next.to] <= case.per_node, "too many on {}", next.to);
        prop_assert!(on_nodes[&next.to] * case.cpus <= 8, "no room on {}", next.to);
    }
    if preferences.is_empty() && !case.binpack {
        even_in_the_end(case, &world.state, &on_nodes)?;
    }
    Ok(())
}

/// Nodes that could take a task differ by no more than they may from those that have most.
fn even_in_the_end(
    case: &Case,
    state: &State,
    on_nodes: &BTreeMap<NodeId, u64>,
) -> Result<(), TestCaseError> {
    let most = on_nodes.values().max().copied().unwrap_or_default();
    for node in state.nodes().filter(|node| node.takes_new_tasks()) {
        let has = on_nodes.get(&node.id).copied().unwrap_or_default();
        let full = (case.per_node > 0 && has >= case.per_node) || (has + 1) * case.cpus > 8;
        prop_assert!(full || most <= has + case.skew, "{} has {has}, another {most}", node.id);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn moves_even_out_and_end(case in case()) {
        check(&case)?;
    }
}
