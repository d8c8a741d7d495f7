//! An operator who changes their mind.

use std::sync::Arc;

use coracle_manager_core::Change;
use coracle_model::id::{NodeId, ServiceId};
use coracle_model::job::{Concurrency, Schedule};
use coracle_model::node::{Availability, Node, NodeState};
use coracle_model::placement::{HostPort, Protocol};
use coracle_model::rebalance::{RebalanceConfig, RebalancePolicy, RebalanceProgress, RebalanceState};
use coracle_model::resources::GenericResource;
use coracle_model::restart::RestartCondition;
use coracle_model::rollout::{FailureAction, Order, Ratio};
use coracle_model::service::{Service, ServiceMode, ServiceSpec, UpdateConfig};
use coracle_model::version::Version;

use crate::fault::pick;
use crate::random::Random;
use crate::world::{World, build};

/// Nodes at most and at least.
const NODES: std::ops::RangeInclusive<usize> = 4..=8;

/// Does one thing to the cluster; returns a node that joined.
pub(crate) fn act(world: &mut World, random: &mut Random) -> Option<NodeId> {
    let services: Vec<ServiceId> = world.state.services().map(|service| service.id).collect();
    let nodes: Vec<NodeId> = world.state.nodes().map(|node| node.id).collect();
    let (service, node) = (pick(random, &services), pick(random, &nodes)?);
    match (random.below(15), service) {
        (0, _) if services.len() < 5 => create(world, random),
        (1, Some(service)) => scale(world, service, random.below(8)),
        (2, Some(service)) => world.update_service(service, |spec| spec.task.force_update += 1),
        (3, Some(service)) => {
            let parallelism = random.below(3);
            world.update_service(service, |spec| {
                spec.update.parallelism = parallelism;
                spec.task.container.env = vec![format!("P={parallelism}")];
            });
        }
        (4, Some(service)) if random.percent(30) => {
            world.write(vec![Change::RemoveService { service, expected: Version::default() }]);
        }
        (5, _) => {
            let availability = match random.below(3) {
                0 => Availability::Drain,
                1 => Availability::Pause,
                _ => Availability::Active,
            };
            world.update_node(node, |spec| spec.availability = availability);
        }
        (6, _) => {
            let zone = if random.percent(50) { "a" } else { "b" };
            world.update_node(node, |spec| drop(spec.labels.insert("zone".to_owned(), zone.to_owned())));
        }
        (7, Some(service)) => {
            let constraint = ["node.labels.zone==a", "node.labels.zone!=b"][random.below(2) as usize];
            let constraints = if random.percent(50) { vec![constraint.parse().unwrap()] } else { Vec::new() };
            let also = random.percent(30);
            world.update_service(service, |spec| {
                spec.task.placement.constraints = constraints;
                spec.task.force_update += u64::from(also);
            });
        }
        (8, _) if nodes.len() < *NODES.end() => return Some(join(world)),
        (9, _) if nodes.len() > *NODES.start() => {
            world.write(vec![Change::RemoveNode { node, expected: Version::default() }]);
        }
        (10, _) => world.set_history(random.below(4) as i32),
        (12 | 13, Some(service)) => rebalance(world, random, service),
        (11, Some(service)) => {
            let (message, expected) = ("back".to_owned(), Version::default());
            // Refused where there is nothing to go back to.
            world.apply(vec![Change::RollBackService { service, expected, message, automatic: false }]);
        }
        _ => {}
    }
    None
}

fn join(world: &mut World) -> NodeId {
    let number = world.nodes.len() as u128 + 1;
    let resources = build::resources(4 * build::CPU, 8 * build::GIB);
    let mut node = build::node(number, &format!("n{number}"), resources);
    equip(&mut node);
    node.status.state = NodeState::Unknown;
    let id = node.id;
    world.add_node(node);
    id
}

pub(crate) fn create(world: &mut World, random: &mut Random) {
    let mut spec = build::service_spec(&format!("s{}", world.services.len()), 1 + random.below(6));
    spec.mode = mode(random, spec.mode);
    spec.task.reservations =
        build::resources(random.below(3) * build::CPU / 2, random.below(3) * build::GIB / 2);
    spec.task.restart.delay = std::time::Duration::from_millis(random.below(4) * 1000);
    if random.percent(20) {
        spec.task.restart.max_attempts = 1 + random.below(3);
    }
    if random.percent(15) {
        spec.task.restart.condition = RestartCondition::OnFailure;
    }
    if random.percent(25) {
        spec.task.placement.max_replicas_per_node = 1 + random.below(2);
    }
    match random.below(8) {
        0 => drop(spec.task.generic.insert("gpu".to_owned(), 1)),
        1 => drop(spec.task.generic.insert("ssd".to_owned(), 1 + random.below(2))),
        2 => {
            let port = HostPort { port: 80 + random.below(2) as u16, protocol: Protocol::Tcp };
            spec.task.placement.host_ports.insert(port);
        }
        _ => {}
    }
    if spec.mode.is_job() {
        schedule(&mut spec, random);
    } else {
        spec.update = rollout(random);
        spec.rollback = rollout(random);
        // The order stays what it is: a service that never has two tasks in a slot must never have them.
        spec.rollback.order = spec.update.order;
    }
    if matches!(spec.mode, ServiceMode::Replicated { .. }) {
        spec.rebalance = RebalanceConfig {
            policy: if random.percent(40) { RebalancePolicy::Auto } else { RebalancePolicy::Off },
            max_skew: 1 + random.below(2),
            delay: std::time::Duration::from_secs(1 + random.below(3)),
            order: if random.percent(70) { Order::StartFirst } else { Order::StopFirst },
        };
    }
    world.add_service(spec);
}

fn mode(random: &mut Random, otherwise: ServiceMode) -> ServiceMode {
    match random.below(100) {
        0..25 => ServiceMode::Global,
        25..40 => {
            ServiceMode::ReplicatedJob { completions: 1 + random.below(5), concurrent: random.below(3) }
        }
        40..46 => ServiceMode::GlobalJob,
        _ => otherwise,
    }
}

/// Some jobs run by the clock; some may take only so long.
fn schedule(spec: &mut ServiceSpec, random: &mut Random) {
    if random.percent(30) {
        let rules = [Concurrency::Allow, Concurrency::Forbid, Concurrency::Replace];
        spec.job.schedule = Some(Schedule {
            // Twice while there are faults; later everything comes to rest.
            cron: "47,48 * * * *".to_owned(),
            timezone: String::new(),
            concurrency: rules[random.below(3) as usize],
            history: random.below(3) as u32,
        });
        if random.percent(30) {
            spec.job.time_to_live = Some(std::time::Duration::from_secs(random.below(30)));
        }
    }
    if random.percent(20) {
        spec.job.time_limit = std::time::Duration::from_secs(10 + random.below(20));
    }
}

/// Cards with names, and things that are counted.
pub(crate) fn equip(node: &mut Node) {
    let cards = ["a".to_owned(), "b".to_owned()].into();
    node.description.generic.insert("gpu".to_owned(), GenericResource::Named(cards));
    node.description.generic.insert("ssd".to_owned(), GenericResource::Count(3));
}

/// Asks for a rebalance, or ends one.
fn rebalance(world: &mut World, random: &mut Random, service: ServiceId) {
    let Some(present) = world.state.service(service) else { return };
    if coracle_model::validate::rebalanceable(&present.spec).is_err() {
        return;
    }
    let limit = if random.percent(50) { None } else { Some(random.below(4)) };
    let begun = RebalanceProgress::begun(world.now, false, limit);
    let progress = match present.rebalance.as_deref() {
        Some(present) if present.state == RebalanceState::Moving => {
            RebalanceProgress { moving: present.moving, since: present.since, ..begun }
        }
        _ => begun,
    };
    world.write(vec![Change::SetRebalance { service, expected: Version::default(), progress }]);
}

fn rollout(random: &mut Random) -> UpdateConfig {
    let actions = [FailureAction::Pause, FailureAction::Continue, FailureAction::Rollback];
    let seconds = |number| std::time::Duration::from_secs(number);
    UpdateConfig {
        parallelism: random.below(3),
        delay: seconds(random.below(3)),
        monitor: seconds(random.below(3) * 2),
        failure_action: actions[random.below(3) as usize],
        max_failure_ratio: Ratio::from_millionths(random.below(3) as u32 * 300_000).unwrap(),
        order: if random.percent(40) { Order::StartFirst } else { Order::StopFirst },
        timeout: seconds(random.below(2) * 30),
    }
}

/// Operators set paused updates going again.
pub(crate) fn resume(world: &mut World) {
    let paused =
        |service: &&Arc<Service>| service.update.as_ref().is_some_and(|update| update.state.is_paused());
    let paused: Vec<ServiceId> = world.state.services().filter(paused).map(|service| service.id).collect();
    for service in paused {
        world.update_service(service, |spec| {
            let count = spec.labels.get("resumed").map_or(0, |count| count.parse::<u32>().unwrap());
            spec.labels.insert("resumed".to_owned(), (count + 1).to_string());
        });
    }
}

fn scale(world: &mut World, service: ServiceId, replicas: u64) {
    world.update_service(service, |spec| {
        if let ServiceMode::Replicated { replicas: present } = &mut spec.mode {
            *present = replicas;
        }
    });
}
