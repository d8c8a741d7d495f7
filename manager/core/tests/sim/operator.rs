//! An operator who changes their mind.

use coracle_manager_core::Change;
use coracle_model::id::{NodeId, ServiceId};
use coracle_model::node::{Availability, NodeState};
use coracle_model::restart::RestartCondition;
use coracle_model::service::ServiceMode;
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
    match (random.below(11), service) {
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
            world.update_service(service, |spec| spec.task.placement.constraints = constraints);
        }
        (8, _) if nodes.len() < *NODES.end() => return Some(join(world)),
        (9, _) if nodes.len() > *NODES.start() => {
            world.write(vec![Change::RemoveNode { node, expected: Version::default() }]);
        }
        (10, _) => world.set_history(random.below(4) as i32),
        _ => {}
    }
    None
}

fn join(world: &mut World) -> NodeId {
    let number = world.nodes.len() as u128 + 1;
    let resources = build::resources(4 * build::CPU, 8 * build::GIB);
    let mut node = build::node(number, &format!("n{number}"), resources);
    node.status.state = NodeState::Unknown;
    let id = node.id;
    world.add_node(node);
    id
}

pub(crate) fn create(world: &mut World, random: &mut Random) {
    let mut spec = build::service_spec(&format!("s{}", world.services.len()), 1 + random.below(6));
    if random.percent(30) {
        spec.mode = ServiceMode::Global;
    }
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
    spec.update.parallelism = random.below(3);
    world.add_service(spec);
}

fn scale(world: &mut World, service: ServiceId, replicas: u64) {
    world.update_service(service, |spec| {
        if let ServiceMode::Replicated { replicas: present } = &mut spec.mode {
            *present = replicas;
        }
    });
}
