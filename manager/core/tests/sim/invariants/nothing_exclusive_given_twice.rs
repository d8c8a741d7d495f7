use std::collections::BTreeSet;

use coracle_manager_core::State;
use coracle_model::resources::GenericResource;

use super::Checked;

/// A port of a node, and a thing of it that has a name, belongs to one task that may run there; of things that are counted no
/// more are given than there are.
pub(crate) fn check(state: &State) -> Checked {
    for node in state.nodes() {
        let (mut ports, mut names) = (BTreeSet::new(), BTreeSet::new());
        let mut counted = std::collections::BTreeMap::<&String, u64>::new();
        for task in state.tasks_on_node(node.id).filter(|task| task.may_run()) {
            let Some(spec) = state.task_spec(task.service, task.spec_version) else { continue };
            if let Some(port) = spec.placement.host_ports.iter().find(|port| !ports.insert(**port)) {
                return Err(format!("node {}: port {port} is given twice", node.id));
            }
            for (kind, count) in &spec.generic {
                *counted.entry(kind).or_default() += count;
                let given = task.generic.get(kind).into_iter().flatten();
                let named = given.filter(|name| name.parse::<u64>().is_err());
                if let Some(name) = named.into_iter().find(|name| !names.insert((kind, *name))) {
                    return Err(format!("node {}: {kind} {name} is given twice", node.id));
                }
            }
        }
        for (kind, taken) in counted {
            let has = node.description.generic.get(kind).map_or(0, GenericResource::count);
            if taken > has {
                return Err(format!("node {}: {taken} of {has} {kind} are given", node.id));
            }
        }
    }
    Ok(())
}

#[test]
fn it_sees_a_port_and_a_name_that_two_tasks_have() {
    use super::forge::with_task;
    use crate::world::{World, build};
    use coracle_model::placement::{HostPort, Protocol};
    let given = |with: fn(&mut coracle_model::service::ServiceSpec)| {
        let mut world = World::default();
        for number in 1..=2 {
            let mut node =
                build::node(number, &format!("n{number}"), build::resources(build::CPU, build::GIB));
            let cards = ["a".to_owned(), "b".to_owned()].into();
            node.description.generic.insert("gpu".to_owned(), GenericResource::Named(cards));
            world.add_node(node);
        }
        let mut spec = build::service_spec("web", 2);
        with(&mut spec);
        world.add_service(spec);
        world.converge();
        assert_eq!(check(&world.state), Ok(()));
        let other = world.task("web.2");
        with_task(&world, "web.1", |task| (task.node, task.generic) = (other.node, other.generic.clone()))
    };
    let port = given(|spec| {
        spec.task.placement.host_ports.insert(HostPort { port: 80, protocol: Protocol::Tcp });
    });
    assert!(check(&port).unwrap_err().contains("port 80"));
    let card = given(|spec| {
        spec.task.generic.insert("gpu".to_owned(), 1);
    });
    assert!(check(&card).unwrap_err().contains("gpu a is given twice"));
}
