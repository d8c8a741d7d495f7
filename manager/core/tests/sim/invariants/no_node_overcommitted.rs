use std::collections::BTreeMap;

use coracle_manager_core::State;
use coracle_model::id::ServiceId;
use coracle_model::resources::Resources;

use super::Checked;

/// The tasks that may run on a node reserve no more than it has, the index says the same, and no service has more
/// live tasks there than it may.
pub(crate) fn check(state: &State) -> Checked {
    for node in state.nodes() {
        let reserved = state
            .tasks_on_node(node.id)
            .filter(|task| task.may_run())
            .filter_map(|task| state.task_spec(task.service, task.spec_version))
            .fold(Resources::default(), |sum, spec| sum.plus(spec.reservations));
        let has = node.description.resources;
        if reserved.cpu > has.cpu || reserved.memory > has.memory {
            return Err(format!("node {} has {has:?}, {reserved:?} reserved", node.id));
        }
        if state.usage(node.id).reserved != reserved {
            return Err(format!(
                "node {}: the index says {:?}, not {reserved:?}",
                node.id,
                state.usage(node.id)
            ));
        }
        let mut live: BTreeMap<ServiceId, u64> = BTreeMap::new();
        for task in state.tasks_on_node(node.id).filter(|task| task.is_live()) {
            *live.entry(task.service).or_default() += 1;
        }
        for (service, count) in live {
            let most =
                state.service(service).map_or(0, |service| service.spec.task.placement.max_replicas_per_node);
            if most > 0 && count > most {
                return Err(format!(
                    "node {} has {count} tasks of service {service}, {most} at most",
                    node.id
                ));
            }
        }
    }
    Ok(())
}

#[test]
fn it_sees_too_much_on_a_node_and_too_many() {
    use super::forge::{forged, running, with_task};
    use coracle_manager_core::state::Record;
    use std::sync::Arc;
    let world = running();
    assert_eq!(check(&world.state), Ok(()));
    let small = forged(&world.state, |record| match record {
        Record::Node(node) => {
            let mut node = (*node).clone();
            node.description.resources = Resources::default();
            Record::Node(Arc::new(node))
        }
        other => other,
    });
    assert!(check(&small).unwrap_err().contains("reserved"));
    let node = world.task("web.2").node;
    let both = with_task(&world, "web.1", |task| task.node = node);
    assert_eq!(check(&both), Ok(()));
    let limited = forged(&both, |record| match record {
        Record::Service(service) => {
            let mut service = (*service).clone();
            service.spec.task.placement.max_replicas_per_node = 1;
            Record::Service(Arc::new(service))
        }
        other => other,
    });
    assert!(check(&limited).unwrap_err().contains("at most"));
}
