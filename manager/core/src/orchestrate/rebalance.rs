//! Moving tasks that run to nodes that suit them better, one at a time.
//!
//! A move is a new task on the better node, which takes the place of the old one when it runs; where the order says so, the old
//! one goes first. The new task has its node from the write that makes it, so that what is moved is what was decided. The next
//! move follows when the new task has run for the time for which updates watch theirs, the pause is over, and everything else of
//! the service is as wanted; so nothing is moved while tasks fail, wait, or are updated. All that is known of a rebalance is in the
//! service, and a new leader goes on from there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use coracle_model::id::{NodeId, ServiceId};
use coracle_model::rebalance::{Move, RebalancePolicy, RebalanceProgress, RebalanceState};
use coracle_model::rollout::{DEFAULT_TIMEOUT, Order};
use coracle_model::service::{Service, ServiceMode};
use coracle_model::task::{DesiredState, Task};
use coracle_model::time::Timestamp;
use coracle_model::validate::rebalanceable;
use coracle_model::version::Version;

use super::service::{Verdict, judge};
use super::slot::SlotTasks;
use super::{restart, slots_of};
use crate::change::Change;
use crate::plan::{Plan, PlanContext, Waiting};
use crate::schedule::relocate::{self, Relocation};
use crate::state::State;

/// How long after one that failed the next begins by itself.
const AFTER_FAILURE: Duration = Duration::from_secs(600);

/// The next step of a service's rebalance, or the first one where it begins by itself.
#[must_use]
pub fn plan_rebalance(state: &State, id: ServiceId, context: &mut PlanContext<'_>) -> Plan {
    let mut plan = Plan::default();
    let Some(service) = state.service(id).filter(|_| state.is_rebalanced(id)) else { return plan };
    let slots = slots_of(state, id);
    let rebalance = Rebalance { state, service, slots: &slots, now: context.present(state) };
    match service.rebalance.as_ref().filter(|progress| progress.state == RebalanceState::Moving) {
        Some(progress) => rebalance.go_on(RebalanceProgress::clone(progress), context, &mut plan),
        None => rebalance.begin_by_itself(context, &mut plan),
    }
    plan
}

/// What would be moved if nothing else happened, in order.
#[must_use]
pub fn preview(state: &State, id: ServiceId, limit: Option<u64>) -> Vec<Relocation> {
    let (mut state, mut moves) = (state.clone(), Vec::new());
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    while moves.len() < limit {
        let Some(service) = state.service(id).cloned() else { break };
        let slots = slots_of(&state, id);
        let rebalance = Rebalance { state: &state, service: &service, slots: &slots, now: state.time() };
        let Some(next) = rebalance.next() else { break };
        state.pretend_moved(&next);
        moves.push(next);
    }
    moves
}

struct Rebalance<'a> {
    state: &'a State,
    service: &'a Arc<Service>,
    slots: &'a [SlotTasks],
    now: Timestamp,
}

/// What became of a task that was to take the place of another.
enum Fate {
    /// It is not known before then.
    OpenUntil(Timestamp),
    /// It runs, or it is no longer wanted: the slot goes on without it.
    Over,
    /// It ended of its own accord, or does not come to run.
    Failed(String),
}

impl Rebalance<'_> {
    fn go_on(&self, mut progress: RebalanceProgress, context: &mut PlanContext<'_>, plan: &mut Plan) {
        if let Some((ended, reason)) = self.interruption(&progress) {
            return self.end(progress, ended, reason, plan);
        }
        if let Some(moving) = progress.moving {
            match self.fate(moving) {
                Fate::OpenUntil(at) => return plan.wake(at),
                Fate::Over => (progress.moving, progress.since) = (None, self.now),
                Fate::Failed(reason) => return self.fail(progress, moving, reason, plan),
            }
            // Switched off in the middle of it: this was the last one.
            if let Some((ended, reason)) = self.interruption(&progress) {
                return self.end(progress, ended, reason, plan);
            }
        }
        if progress.limit.is_some_and(|limit| progress.moves >= limit) {
            let message = format!("{} moved, as many as were wanted", tasks(progress.moves));
            return self.end(progress, RebalanceState::Completed, message, plan);
        }
        if let Some(reason) = self.unrest() {
            let patience = progress.since.after(self.service.spec.rebalance.delay + self.timeout());
            if patience <= self.now {
                let reason = format!("{reason}, for {} s", self.timeout().as_secs());
                return self.end(progress, RebalanceState::Stopped, reason, plan);
            }
            plan.wake(patience);
            self.wait(reason, plan);
            return self.note(progress, plan);
        }
        let Some(next) = self.next() else {
            let message = match progress.moves {
                0 => "nothing to move".to_owned(),
                moves => format!("{} moved", tasks(moves)),
            };
            return self.end(progress, RebalanceState::Completed, message, plan);
        };
        let rested = progress.since.after(self.service.spec.rebalance.delay);
        if progress.moves > 0 && rested > self.now {
            plan.wake(rested);
            return self.note(progress, plan);
        }
        self.begin(progress, &next, context, plan);
    }

    fn begin_by_itself(&self, context: &mut PlanContext<'_>, plan: &mut Plan) {
        let config = &self.service.spec.rebalance;
        if config.policy != RebalancePolicy::Auto
            || self.is_updated()
            || rebalanceable(&self.service.spec).is_err()
        {
            return;
        }
        let last = self.service.rebalance.as_ref();
        let rested = last.and_then(|last| {
            let pause = if last.state == RebalanceState::Stopped { AFTER_FAILURE } else { config.delay };
            Some(last.ended_at?.after(pause))
        });
        if let Some(at) = rested.filter(|at| *at > self.now) {
            return plan.wake(at);
        }
        if self.unrest().is_some() {
            return;
        }
        let Some(next) = self.next() else { return };
        // A node that comes and goes is not worth moving to.
        let proven = self.state.node(next.to).map(|node| node.status.since.after(config.delay));
        if let Some(at) = proven.filter(|at| *at > self.now) {
            return plan.wake(at);
        }
        self.begin(RebalanceProgress::begun(self.now, true, None), &next, context, plan);
    }

    fn is_updated(&self) -> bool {
        self.service
            .update
            .as_ref()
            .is_some_and(|update| update.state.is_active() || update.state.is_paused())
    }

    /// What ends a rebalance whatever else there is. One that began by itself does so again afterwards.
    fn interruption(&self, progress: &RebalanceProgress) -> Option<(RebalanceState, String)> {
        let ended = if progress.automatic { RebalanceState::Completed } else { RebalanceState::Stopped };
        if self.is_updated() {
            return Some((ended, "an update of the service began".to_owned()));
        }
        if let Err(reason) = rebalanceable(&self.service.spec) {
            return Some((ended, reason.to_owned()));
        }
        let switched_off = progress.automatic && self.service.spec.rebalance.policy == RebalancePolicy::Off;
        (switched_off && progress.moving.is_none()).then(|| (ended, "it was switched off".to_owned()))
    }

    fn fate(&self, moving: Move) -> Fate {
        let Some(task) = self.state.task(moving.to) else { return Fate::Over };
        let node = task.node.and_then(|node| self.state.node(node));
        let node = node.map_or("a node that is gone", |node| node.description.hostname.as_str());
        if restart::ended_by_itself(task) {
            let error =
                if task.status.error.is_empty() { String::new() } else { format!(": {}", task.status.error) };
            return Fate::Failed(format!("task {} on {node} {}{error}", task.id, task.status.state));
        }
        if !task.is_live() {
            return Fate::Over;
        }
        match task.running_since.filter(|_| task.is_running()) {
            Some(since) => match since.after(self.service.spec.update.monitor) {
                watched if watched > self.now => Fate::OpenUntil(watched),
                _ => Fate::Over,
            },
            None => match task.created_at.after(self.timeout()) {
                at if at > self.now => Fate::OpenUntil(at),
                _ => Fate::Failed(format!(
                    "task {} on {node} did not run within {} s",
                    task.id,
                    self.timeout().as_secs()
                )),
            },
        }
    }

    fn timeout(&self) -> Duration {
        let timeout = self.service.spec.update.timeout;
        if timeout.is_zero() { DEFAULT_TIMEOUT } else { timeout }
    }

    /// What has to settle before a task is moved.
    fn unrest(&self) -> Option<&'static str> {
        let held: Vec<&SlotTasks> = self.slots.iter().filter(|slot| slot.is_held()).collect();
        let wanted = match self.service.spec.mode {
            ServiceMode::Replicated { replicas } => replicas,
            _ => 0,
        };
        if held.len() as u64 != wanted || !held.iter().all(|slot| self.is_at_rest(slot)) {
            Some("not all of its tasks run as wanted")
        } else if self.slots.iter().any(|slot| slot.is_leaving(self.state)) {
            Some("tasks of it are still stopping")
        } else {
            None
        }
    }

    /// One task runs and may stay, or none does and none is wanted.
    fn is_at_rest(&self, slot: &SlotTasks) -> bool {
        let judged = judge(self.state, self.service, slot, self.now);
        match judged.verdict {
            Verdict::Fine => self.alone(slot).is_some(),
            Verdict::Ended(_, _) => true,
            _ => false,
        }
    }

    /// The one task of a slot, which runs.
    fn alone<'s>(&self, slot: &'s SlotTasks) -> Option<&'s Arc<Task>> {
        let mut live = slot.tasks.iter().filter(|task| task.is_live());
        let only = live.next().filter(|_| slot.is_running(self.state))?;
        live.next().is_none().then_some(only)
    }

    fn next(&self) -> Option<Relocation> {
        relocate::next(self.state, self.service, &self.movable(), self.now)
    }

    /// Of every node that could also take tasks the youngest task: whoever uses the service misses it least.
    fn movable(&self) -> BTreeMap<NodeId, Arc<Task>> {
        let mut movable: BTreeMap<NodeId, Arc<Task>> = BTreeMap::new();
        let age = |task: &Task| (task.running_since, task.slot);
        for task in self.slots.iter().filter_map(|slot| self.alone(slot)) {
            let Some(node) = task.node.and_then(|node| self.state.node(node)) else { continue };
            if node.takes_new_tasks() && movable.get(&node.id).is_none_or(|other| age(other) < age(task)) {
                movable.insert(node.id, Arc::clone(task));
            }
        }
        movable
    }

    /// The write in which a task is made, has its node, and is known to take the place of the other.
    fn begin(
        &self,
        progress: RebalanceProgress,
        next: &Relocation,
        context: &mut PlanContext<'_>,
        plan: &mut Plan,
    ) {
        let Some(slot) = self.slots.iter().find(|slot| slot.tasks.iter().any(|task| task.id == next.task))
        else {
            return;
        };
        let beside = self.service.spec.rebalance.order == Order::StartFirst;
        let task = slot.new_task(self.state, self.service, (Duration::ZERO, beside), context);
        let moving = Some(Move { from: next.task, to: task.id });
        self.note(RebalanceProgress { moves: progress.moves + 1, moving, ..progress }, plan);
        // The note before raises the service's version, which it has checked.
        let (service_version, expected, id) = (Version::default(), Version::default(), task.id);
        if !beside {
            let desired = DesiredState::Shutdown;
            plan.changes.push(Change::RaiseDesired { task: next.task, desired, service_version });
        }
        plan.changes.push(Change::CreateTask { task, service_version, beside: Some(next.task) });
        plan.changes.push(Change::AssignTask {
            task: id,
            expected,
            node: next.to,
            node_version: next.to_version,
            generic: next.generic.clone(),
        });
        plan.wake(self.now.after(self.timeout()));
    }

    /// The old task goes on, if it is still there; else the slot has another by the restart policy.
    fn fail(&self, progress: RebalanceProgress, moving: Move, reason: String, plan: &mut Plan) {
        self.end(progress, RebalanceState::Stopped, reason, plan);
        let old_runs = self.state.task(moving.from).is_some_and(|task| task.is_live());
        if old_runs {
            // In the same write, or the move would seem to be over for another reason. The note has checked the version.
            let (desired, service_version) = (DesiredState::Shutdown, Version::default());
            plan.changes.push(Change::RaiseDesired { task: moving.to, desired, service_version });
        }
    }

    fn end(&self, progress: RebalanceProgress, state: RebalanceState, message: String, plan: &mut Plan) {
        let ended_at = Some(self.now);
        self.note(RebalanceProgress { state, message, ended_at, moving: None, ..progress }, plan);
    }

    fn note(&self, progress: RebalanceProgress, plan: &mut Plan) {
        if self.service.rebalance.as_deref() != Some(&progress) {
            let (service, expected) = (self.service.id, self.service.version);
            plan.changes.push(Change::SetRebalance { service, expected, progress });
        }
    }

    fn wait(&self, reason: &str, plan: &mut Plan) {
        let reason = format!("rebalance waits: {reason}");
        plan.waiting.push(Waiting { service: self.service.id, slot: None, tasks: 0, reason });
    }
}

fn tasks(count: u64) -> String {
    if count == 1 { "1 task".to_owned() } else { format!("{count} tasks") }
}
