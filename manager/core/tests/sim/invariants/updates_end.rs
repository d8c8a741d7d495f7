use std::time::Duration;

use coracle_manager_core::State;
use coracle_model::rebalance::RebalanceState;
use coracle_model::rollout::DEFAULT_TIMEOUT;
use coracle_model::service::Service;
use coracle_model::time::Timestamp;

use super::Checked;

/// Some changes of leaders, lost writes, and clocks that differ.
const SLACK: Duration = Duration::from_secs(60);

/// An update or a rollback with a time-out completes, pauses or goes back when nothing has gone forward for that long; a
/// rebalance always ends.
pub(crate) fn check(state: &State, now: Timestamp) -> Checked {
    for service in state.services() {
        let begun = service.update.as_ref().filter(|update| update.state.is_active());
        if let Some(update) = begun {
            let back = update.state.is_rollback();
            let config = if back { service.spec.rollback } else { service.spec.update };
            let tasks =
                state.tasks_of_service(service.id).filter(|task| task.created_at >= update.started_at);
            let last = tasks.filter_map(|task| task.running_since).max().unwrap_or(update.started_at);
            let allowed = config.timeout + config.delay.max(config.monitor) + SLACK;
            if !config.timeout.is_zero() && now.since(last.max(update.started_at)) > allowed {
                return Err(format!("{} of {} does not end", update.state, service.spec.name));
            }
        }
        rebalance(service, now)?;
    }
    Ok(())
}

fn rebalance(service: &Service, now: Timestamp) -> Checked {
    let moving = service.rebalance.as_ref().filter(|progress| progress.state == RebalanceState::Moving);
    let Some(progress) = moving else { return Ok(()) };
    let timeout = service.spec.update.timeout;
    let timeout = if timeout.is_zero() { DEFAULT_TIMEOUT } else { timeout };
    // Waiting for rest, then one move.
    let allowed = service.spec.rebalance.delay + timeout * 2 + service.spec.update.monitor + SLACK;
    if now.since(progress.since) > allowed {
        return Err(format!("the rebalance of {} does not end", service.spec.name));
    }
    Ok(())
}

#[test]
fn it_sees_an_update_and_a_rebalance_that_hang() {
    use super::forge::running;
    use coracle_manager_core::Change;
    use coracle_model::rebalance::RebalanceProgress;
    use coracle_model::version::Version;
    let mut world = running();
    let service = world.services["web"];
    world.update_service(service, |spec| spec.update.timeout = Duration::from_secs(30));
    let progress = RebalanceProgress::begun(world.now, false, None);
    world.write(vec![Change::SetRebalance { service, expected: Version::default(), progress }]);
    assert_eq!(check(&world.state, world.now.after(Duration::from_secs(100))), Ok(()));
    let late = world.now.after(Duration::from_secs(200));
    assert!(check(&world.state, late).unwrap_err().contains("rebalance"));
    world.settle();
    assert_eq!(check(&world.state, late), Ok(()));
    world.update_service(service, |spec| spec.task.force_update += 1);
    assert_eq!(check(&world.state, world.now.after(Duration::from_secs(60))), Ok(()));
    assert!(check(&world.state, late).unwrap_err().contains("updating"));
}
