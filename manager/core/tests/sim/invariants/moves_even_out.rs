use std::collections::BTreeMap;

use coracle_manager_core::{Change, Plan, State};
use coracle_model::id::NodeId;
use coracle_model::rollout::Order;

use super::Checked;

/// A task is moved only while everything of its service runs and no update is under way, from where there is most to where
/// there is less by more than may be; and without a gap, unless the order says otherwise.
pub(crate) fn check(view: &State, plan: &Plan) -> Checked {
    for change in &plan.changes {
        let Change::SetRebalance { service, progress, .. } = change else { continue };
        let (Some(moving), Some(service)) = (progress.moving, view.service(*service)) else { continue };
        let assigned = plan.changes.iter().find_map(|change| match change {
            Change::AssignTask { task, node, .. } if *task == moving.to => Some(*node),
            _ => None,
        });
        // A move that is known already is only kept.
        let Some(to) = assigned else { continue };
        let name = &service.spec.name;
        if service.update.as_ref().is_some_and(|update| update.state.is_active() || update.state.is_paused())
        {
            return Err(format!("a task of {name} is moved during its update"));
        }
        let mut tasks: BTreeMap<NodeId, u64> = BTreeMap::new();
        for node in
            view.tasks_of_service(service.id).filter(|task| task.is_live()).filter_map(|task| task.node)
        {
            *tasks.entry(node).or_default() += 1;
        }
        let count = |node: &NodeId| tasks.get(node).copied().unwrap_or_default();
        let from = view.task(moving.from).filter(|task| task.is_running()).and_then(|task| task.node);
        let Some(from) = from else { return Err(format!("{name}: what does not run is moved")) };
        if count(&from) <= count(&to) + service.spec.rebalance.max_skew {
            return Err(format!("a task of {name} is moved from {} to {} tasks", count(&from), count(&to)));
        }
        let gives_up = |change: &Change| matches!(change, Change::RaiseDesired { .. });
        if service.spec.rebalance.order == Order::StartFirst && plan.changes.iter().any(gives_up) {
            return Err(format!("{name}: the old task goes before the new one runs"));
        }
    }
    Ok(())
}

#[test]
fn it_sees_a_move_that_evens_nothing_out() {
    use crate::world::{Key, World, build};
    use coracle_manager_core::orchestrate::plan_rebalance;
    use coracle_model::rebalance::RebalancePolicy;
    use coracle_model::task::DesiredState;
    use std::time::Duration;
    let mut world = World::default();
    world.add_nodes(1);
    let mut spec = build::service_spec("web", 3);
    spec.rebalance.policy = RebalancePolicy::Auto;
    let service = world.add_service(spec);
    world.converge();
    let resources = build::resources(4 * build::CPU, 8 * build::GIB);
    world.add_node(build::node(2, "n2", resources));
    world.tick(Duration::from_secs(60));
    let mut plan = world.plan(Key::Rebalance(service));
    assert!(matches!(plan.changes[0], Change::SetRebalance { .. }));
    assert_eq!(check(&world.state, &plan), Ok(()));
    plan.changes.push(world.want("web.1", DesiredState::Shutdown));
    assert!(check(&world.state, &plan).unwrap_err().contains("goes before"));
    plan.changes.pop();
    // By a view in which it was done already.
    let mut context = coracle_manager_core::PlanContext { now: world.now, ids: &mut world.ids };
    assert_ne!(plan_rebalance(&world.state, service, &mut context), Plan::default());
    world.converge();
    world.tick(Duration::from_secs(60));
    let moved = world.task("web.3");
    let Change::SetRebalance { progress, .. } = &mut plan.changes[0] else { panic!("it begins a move") };
    progress.moving.as_mut().unwrap().from = moved.id;
    assert!(check(&world.state, &plan).unwrap_err().contains("is moved from"));
}
