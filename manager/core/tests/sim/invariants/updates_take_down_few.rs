use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use coracle_manager_core::State;
use coracle_model::id::{ServiceId, TaskId};
use coracle_model::node::Availability;
use coracle_model::rollout::{Order, UpdateConfig};
use coracle_model::service::{Service, ServiceMode, ServiceSpec, TaskSpec};
use coracle_model::task::{Slot, Task, TaskState};
use coracle_model::time::Timestamp;

use super::Checked;

/// A plan may rest on a view that is so old: what has run for less may have been taken for a task that does not run yet.
const VIEW: Duration = Duration::from_secs(4);

/// Slots that ran until the managers themselves took their task away, for an update or a rebalance, and that do not run again yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outages {
    down: BTreeSet<(ServiceId, Slot)>,
    /// Since when tasks that do not run yet have a node.
    seated: BTreeMap<TaskId, Timestamp>,
}

impl Outages {
    /// No more slots are taken down at a time than the parallelism allows, none for no reason, and with start-first none unless
    /// the new task finds no room or takes too long.
    pub(crate) fn look(&mut self, before: &State, after: &State, now: Timestamp) -> Checked {
        self.down.retain(|(service, slot)| is_still_down(after, *service, *slot));
        let is_seated = |task: &Task| task.is_live() && task.node.is_some() && !task.is_running();
        self.seated.retain(|task, _| after.task(*task).is_some_and(|task| is_seated(task)));
        for task in after.tasks().filter(|task| is_seated(task)) {
            self.seated.entry(task.id).or_insert(now);
        }
        for service in after.services().filter(|service| !service.spec.mode.is_job()) {
            let Some(old) = before.service(service.id) else { continue };
            let running = before.tasks_of_service(service.id).filter(|task| runs(before, task));
            let taken: Vec<&Task> = running
                .filter(|task| is_taken_down(before, after, (old, service), task))
                .map(|task| &**task)
                .collect();
            for task in taken {
                self.judge(before, after, (old, service), task, now)?;
            }
        }
        Ok(())
    }

    fn judge(
        &mut self,
        before: &State,
        after: &State,
        (old, new): (&Service, &Service),
        task: &Task,
        now: Timestamp,
    ) -> Checked {
        let name = &new.spec.name;
        let outdated = [old, new].into_iter().any(|service| {
            made_of(before, after, task).is_some_and(|spec| !spec.also_satisfies(&service.spec.task))
                || !is_admitted(after, &service.spec.task, task)
        });
        let moved = [old, new].into_iter().any(|service| {
            service.spec.rebalance.order == Order::StopFirst
                && service
                    .rebalance
                    .as_ref()
                    .and_then(|progress| progress.moving)
                    .is_some_and(|moving| moving.from == task.id)
        });
        if !outdated && !moved {
            return Err(format!("slot {} of {name} was taken down for no reason", task.slot));
        }
        let configs = [config(old), config(new)];
        let fresh = task.running_since.is_some_and(|since| now.since(since) < VIEW);
        if !moved && !fresh && configs.iter().all(|config| config.order == Order::StartFirst) {
            let newest = after
                .tasks_of_slot(new.id, task.slot)
                .filter(|other| other.is_live())
                .max_by_key(|other| other.created_at);
            let late = |newcomer: &Task| {
                configs.iter().any(|config| {
                    !config.timeout.is_zero() && now.since(newcomer.created_at) + VIEW > config.timeout
                })
            };
            if newest.is_some_and(|newcomer| self.has_room(newcomer, now) && !late(newcomer)) {
                return Err(format!("slot {} of {name} was taken down before its new task ran", task.slot));
            }
        }
        self.down.insert((new.id, task.slot));
        // It was replaced as one that is not up yet, which costs nothing, and came up while that was on its way to the log.
        if fresh && !moved {
            return Ok(());
        }
        let down = self.down.iter().filter(|(service, _)| *service == new.id).count() as u64;
        let most = configs
            .iter()
            .map(|config| if config.parallelism == 0 { u64::MAX } else { config.parallelism })
            .max();
        if most.is_some_and(|most| down > most) {
            return Err(format!("{down} slots of {name} are down at a time, {most:?} may be"));
        }
        Ok(())
    }

    /// It has had a node for as long as a view may be old.
    fn has_room(&self, newcomer: &Task, now: Timestamp) -> bool {
        self.seated.get(&newcomer.id).is_some_and(|since| now.since(*since) > VIEW)
    }
}

fn config(service: &Service) -> UpdateConfig {
    let back = service.update.as_ref().is_some_and(|update| update.state.is_rollback());
    if back { service.spec.rollback } else { service.spec.update }
}

fn runs(state: &State, task: &Task) -> bool {
    task.is_running() && task.is_live() && task.node.is_some_and(|node| !state.is_node_lost(node))
}

/// What the task was made of.
fn made_of<'a>(before: &'a State, after: &'a State, task: &Task) -> Option<&'a TaskSpec> {
    let of = |state: &'a State| state.task_spec(task.service, task.spec_version);
    of(after).or_else(|| of(before)).map(|spec| &**spec)
}

/// Whether the constraints hold on the task's node.
fn is_admitted(state: &State, spec: &TaskSpec, task: &Task) -> bool {
    let node = task.node.and_then(|node| state.node(node));
    node.is_some_and(|node| spec.placement.constraints.iter().all(|constraint| constraint.admits(node)))
}

/// Whether the constraints let the task stay until an update comes to its slot: they do so now, or did when it was made and were
/// changed since. How many tasks a global service has is for its constraints to say.
fn may_await_its_turn(before: &State, after: &State, (old, new): (&Service, &Service), task: &Task) -> bool {
    let updating = [old, new].into_iter().any(|service| {
        service.update.as_ref().is_some_and(|update| update.state.is_active() || update.state.is_paused())
    });
    let by_itself = || made_of(before, after, task).is_some_and(|spec| is_admitted(after, spec, task));
    is_admitted(after, &new.spec.task, task)
        || (updating && matches!(new.spec.mode, ServiceMode::Replicated { .. }) && by_itself())
}

/// Whether the managers took it away although it could have stayed, and its slot is not served by another.
fn is_taken_down(before: &State, after: &State, services: (&Service, &Service), task: &Task) -> bool {
    let Some(now) = after.task(task.id) else { return false };
    let ended = matches!(
        now.status.state,
        TaskState::Failed | TaskState::Complete | TaskState::Rejected | TaskState::Orphaned
    );
    let may_stay =
        task.node.and_then(|node| after.node(node)).is_some_and(|node| {
            node.spec.availability != Availability::Drain && !after.is_node_lost(node.id)
        }) && may_await_its_turn(before, after, services, task);
    let others: Vec<_> =
        after.tasks_of_slot(task.service, task.slot).filter(|other| other.is_live()).collect();
    // What ran and failed at once is a fault; a slot without a task is no longer wanted.
    let replaced = !others.is_empty() && others.iter().all(|other| other.running_since.is_none());
    !now.is_live() && !ended && may_stay && replaced
}

/// Until it runs again, is no longer wanted, or ends for good.
fn is_still_down(state: &State, service: ServiceId, slot: Slot) -> bool {
    let live: Vec<_> = state.tasks_of_slot(service, slot).filter(|task| task.is_live()).collect();
    let paused = match slot {
        Slot::Node(node) => state.node(node).is_none_or(|node| !node.takes_new_tasks()),
        Slot::Number(_) => false,
    };
    // One that ended of its own accord while it was stopped would be down anyway.
    let predecessor =
        state.tasks_of_slot(service, slot).filter(|task| !task.is_live()).max_by_key(|task| task.created_at);
    let by_itself = predecessor.is_some_and(|task| {
        matches!(task.status.state, TaskState::Failed | TaskState::Complete | TaskState::Rejected)
    });
    !paused && !by_itself && !live.is_empty() && !live.iter().any(|task| runs(state, task))
}

#[test]
fn it_sees_too_many_slots_that_are_down() {
    sees_two_that_are_down(|spec| spec.task.force_update += 1);
    let nowhere = "node.labels.zonee==b".parse().unwrap();
    sees_two_that_are_down(|spec| spec.task.placement.constraints = vec![nowhere]);
}

fn sees_two_that_are_down(update: impl FnOnce(&mut ServiceSpec)) {
    use super::forge::{running, with_task, world_with};
    use coracle_model::task::DesiredState;
    let mut world = running();
    let service = world.services["web"];
    let before = world.state.clone();
    let nothing = with_task(&world, "web.1", |task| task.desired = DesiredState::Shutdown);
    assert_eq!(
        Outages::default().look(&before, &nothing, world.now),
        Ok(()),
        "a slot that is not filled again is not wanted"
    );
    let later = world.now.after(VIEW + VIEW);
    world.update_service(service, update);
    let updated = world.state.clone();
    world.settle();
    let mut outages = Outages::default();
    assert_eq!(outages.look(&updated, &world.state, later), Ok(()));
    assert_eq!(outages.down.len(), 1);
    // The other one too, with a task in its place that does not run.
    let one = world.state.clone();
    let second = with_task(&world, "web.2", |task| task.desired = DesiredState::Shutdown);
    let (mut spare, slot) = (world.task("web.1"), world.task("web.2").slot);
    spare.id = TaskId::from_bits(4711);
    spare.slot = slot;
    let records: Vec<_> =
        second.records().chain([coracle_manager_core::state::Record::Task(spare.into())]).collect();
    let both = world_with(&world, State::from_records(records).unwrap());
    assert_eq!(outages.clone().look(&one, &both.state, world.now), Ok(()), "it has run for too short a time");
    assert!(outages.look(&one, &both.state, later).unwrap_err().contains("2 slots of web are down"));
    // Without an update there is no reason at all.
    assert!(Outages::default().look(&before, &both.state, later).is_err());
}
