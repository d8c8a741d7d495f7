//! `node …`

use std::collections::BTreeMap;

use coracle_manager_core::Change;
use coracle_model::id::NodeId;
use coracle_model::node::{Availability, NodeState};
use coracle_model::resources::GenericResource;
use coracle_model::role::Role;
use coracle_model::version::Version;

use super::{Options, cpus, memory};
use crate::world::{World, build};

pub fn run(world: &mut World, verb: &str, name: &str, options: &Options<'_>) -> Vec<String> {
    if verb == "add" {
        add(world, name, options);
        return Vec::new();
    }
    let id = world.nodes[name];
    match verb {
        "down" => world.set_node_state(id, NodeState::Down),
        "ready" => world.set_node_state(id, NodeState::Ready),
        "unknown" => world.set_node_state(id, NodeState::Unknown),
        "drain" => world.update_node(id, |spec| spec.availability = Availability::Drain),
        "pause" => world.update_node(id, |spec| spec.availability = Availability::Pause),
        "active" => world.update_node(id, |spec| spec.availability = Availability::Active),
        "label" => world.update_node(id, |spec| set_labels(&mut spec.labels, options)),
        "resize" => resize(world, id, options),
        "remove" => {
            let change = Change::RemoveNode { node: id, expected: Version::default() };
            return super::service::outcome(world, change);
        }
        other => panic!("unknown command node {other}"),
    }
    Vec::new()
}

fn add(world: &mut World, name: &str, options: &Options<'_>) {
    let resources = build::resources(
        cpus(options.get("cpu").unwrap_or("4")),
        memory(options.get("memory").unwrap_or("8GiB")),
    );
    let mut node = build::node(world.nodes.len() as u128 + 1, name, resources);
    set_labels(&mut node.spec.labels, options);
    node.description.generic = generic(options);
    if let Some(role) = options.get("role") {
        node.spec.role = role.parse::<Role>().unwrap();
    }
    if let Some(architecture) = options.get("arch") {
        architecture.clone_into(&mut node.description.platform.architecture);
    }
    world.add_node(node);
}

/// `generic=KIND:NUMBER` or `generic=KIND:NAME,NAME`
fn generic(options: &Options<'_>) -> BTreeMap<String, GenericResource> {
    let one = |(_, text): (&str, &str)| {
        let (kind, value) = text.split_once(':').unwrap();
        let held = match value.parse() {
            Ok(count) => GenericResource::Count(count),
            Err(_) => GenericResource::Named(value.split(',').map(str::to_owned).collect()),
        };
        (kind.to_owned(), held)
    };
    options.iter().filter(|(key, _)| *key == "generic").map(one).collect()
}

fn set_labels(labels: &mut BTreeMap<String, String>, options: &Options<'_>) {
    for (_, label) in options.iter().filter(|(key, _)| *key == "label") {
        let (key, value) = label.split_once(':').unwrap();
        labels.insert(key.to_owned(), value.to_owned());
    }
}

fn resize(world: &mut World, id: NodeId, options: &Options<'_>) {
    let node = world.state.node(id).unwrap();
    let mut description = node.description.clone();
    if let Some(cpu) = options.get("cpu") {
        description.resources.cpu.0 = cpus(cpu);
    }
    if let Some(size) = options.get("memory") {
        description.resources.memory.0 = memory(size);
    }
    if options.get("generic").is_some() {
        description.generic = generic(options);
    }
    let address = node.status.address.clone();
    world.write(vec![Change::DescribeNode { node: id, description, address }]);
}
