use std::collections::BTreeSet;

use coracle_manager_core::State;
use coracle_model::service::ServiceMode;
use coracle_model::task::{DesiredState, Slot};

use super::Checked;

/// Once settled, a replicated service has as many slots in use as it wants, and a global one at most one per node
/// that is there.
pub(crate) fn check(state: &State) -> Checked {
    for service in state.services() {
        let kept = state.tasks_of_service(service.id).filter(|task| task.desired < DesiredState::Remove);
        let slots: BTreeSet<Slot> = kept.map(|task| task.slot).collect();
        let fits = match service.spec.mode {
            ServiceMode::Replicated { replicas } => slots.len() as u64 == replicas,
            ServiceMode::Global => slots.iter().all(|slot| match slot {
                Slot::Node(node) => state.node(*node).is_some_and(|node| node.keeps_tasks()),
                Slot::Number(_) => false,
            }),
            ServiceMode::ReplicatedJob { .. } | ServiceMode::GlobalJob => true,
        };
        if !fits {
            return Err(format!(
                "service {} wants {:?} and has {slots:?}",
                service.spec.name, service.spec.mode
            ));
        }
    }
    Ok(())
}

#[test]
fn it_sees_a_slot_too_many_and_one_too_few() {
    use super::forge::{running, with_task};
    let mut world = running();
    assert_eq!(check(&world.state), Ok(()));
    let fewer = with_task(&world, "web.2", |task| task.desired = DesiredState::Remove);
    assert!(check(&fewer).is_err());
    let service = world.services["web"];
    world.update_service(service, |spec| spec.mode = ServiceMode::Replicated { replicas: 1 });
    assert!(check(&world.state).is_err());
    world.settle();
    assert_eq!(check(&world.state), Ok(()));
}
