use std::collections::BTreeMap;
use std::time::Duration;

use coracle_manager_core::State;
use coracle_model::id::TaskId;
use coracle_model::task::DesiredState;
use coracle_model::time::Timestamp;

use super::Checked;

/// How long a task may be wanted whose service was removed: some changes of leaders, and lost writes.
const SOON: Duration = Duration::from_secs(45);

/// Tasks without a service that are not yet on their way out, since when.
#[derive(Debug, Default)]
pub(crate) struct Orphans(BTreeMap<TaskId, Timestamp>);

impl Orphans {
    /// Looks which there are now.
    pub(crate) fn look(&mut self, state: &State, now: Timestamp) {
        let left = |task: &TaskId| {
            state.task(*task).is_some_and(|task| {
                state.service(task.service).is_none() && task.desired != DesiredState::Remove
            })
        };
        self.0.retain(|task, _| left(task));
        for task in state.tasks().filter(|task| left(&task.id)) {
            self.0.entry(task.id).or_insert(now);
        }
    }

    /// Every task belongs to a service, or is soon on its way out.
    pub(crate) fn check(&self, now: Timestamp) -> Checked {
        match self.0.iter().find(|(_, since)| now.since(**since) > SOON) {
            Some((task, _)) => Err(format!("task {task} outlives its service")),
            None => Ok(()),
        }
    }
}

/// Every task has its specification, and every specification a service or a task that it is for.
pub(crate) fn rows(state: &State) -> Checked {
    for task in state.tasks() {
        if state.task_spec(task.service, task.spec_version).is_none() {
            return Err(format!("task {} has no specification", task.id));
        }
    }
    for (service, version, _) in state.task_specs() {
        let present = state.service(service).is_some_and(|service| service.spec_version == version);
        if !present && !state.tasks_of_service(service).any(|task| task.spec_version == version) {
            return Err(format!("nobody refers to specification {version} of service {service}"));
        }
    }
    Ok(())
}

#[test]
fn it_sees_tasks_that_stay_and_rows_that_nobody_wants() {
    use super::forge::{forged, running};
    use coracle_manager_core::Change;
    use coracle_manager_core::state::Record;
    use coracle_model::version::Version;
    let mut world = running();
    assert_eq!(rows(&world.state), Ok(()));
    let service = world.services["web"];
    let mut orphans = Orphans::default();
    world.write(vec![Change::RemoveService { service, expected: Version::default() }]);
    orphans.look(&world.state, world.now);
    assert_eq!(orphans.check(world.now), Ok(()));
    let later = world.now.after(SOON + Duration::from_secs(1));
    assert!(orphans.check(later).is_err());
    world.settle();
    orphans.look(&world.state, later);
    assert_eq!(orphans.check(later), Ok(()));
    let spare = forged(&running().state, |record| match record {
        Record::Service(service) => {
            let mut service = (*service).clone();
            service.spec_version = Version::new(99);
            Record::Service(std::sync::Arc::new(service))
        }
        other => other,
    });
    assert_eq!(rows(&spare), Ok(()), "its tasks still refer to it");
    let unused = State::from_records(spare.records().filter(|record| !matches!(record, Record::Task(_))));
    assert!(rows(&unused.unwrap()).is_err());
}
