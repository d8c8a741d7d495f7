//! One run of a job: what each of its slots needs, and how far it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use coracle_model::id::NodeId;
use coracle_model::job::JobStatus;
use coracle_model::node::{Availability, NodeState};
use coracle_model::service::{Service, ServiceMode};
use coracle_model::task::{DesiredState, Slot, Task, TaskState};
use coracle_model::time::Timestamp;

use crate::orchestrate::slot::{SlotTasks, give_up, start};
use crate::orchestrate::{fit, restart};
use crate::plan::{Plan, PlanContext, Waiting};
use crate::state::State;

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RunCounts {
    /// Slots of which a task completed.
    pub(crate) completed: u64,
    /// Slots that have to complete.
    pub(crate) total: u64,
    /// Slots that will not be tried again.
    pub(crate) failed: u64,
}

impl RunCounts {
    /// Whether nothing more will happen.
    pub(crate) const fn is_over(self) -> bool {
        self.completed + self.failed >= self.total
    }
}

/// What one slot of a run needs.
#[derive(Debug, Clone)]
pub(super) enum Need {
    /// A task completed.
    Done,
    /// A task is on its way, or waits for its delay.
    Live,
    /// It may be wanted running now.
    Start(Arc<Task>),
    /// A first task, or another one instead of this.
    Fill(Option<Arc<Task>>, Duration),
    /// It failed, and is not tried again.
    Failed(String),
    /// A task on a node that may not have it any more, and nothing instead.
    Leave(Arc<Task>),
}

/// One run of a job, and when it is looked at.
pub(super) struct Run<'a> {
    pub(super) state: &'a State,
    pub(super) service: &'a Service,
    /// Which run, and since when.
    pub(super) job: &'a JobStatus,
    pub(super) now: Timestamp,
}

impl Run<'_> {
    /// Does what the run needs, with the service's slots in order; the answer is whether it is over.
    pub(super) fn carry_on(
        &self,
        slots: &[SlotTasks],
        context: &mut PlanContext<'_>,
        plan: &mut Plan,
    ) -> bool {
        let needs = self.needs(slots);
        let counts = self.counts(&needs);
        let limit = self.limit();
        let timed_out = limit.is_some_and(|limit| limit <= self.now);
        if timed_out {
            self.stop(slots, plan);
        } else {
            self.pursue(slots, &needs, context, plan);
            if let Some(limit) = limit.filter(|_| !counts.is_over()) {
                plan.wake(limit);
            }
        }
        // A node that never comes back would keep the run open for ever.
        let runs =
            |task: &Arc<Task>| task.run == self.job.run && task.may_run() && self.is_within_reach(task);
        let still = slots.iter().flat_map(|slot| &slot.tasks).any(runs);
        (counts.is_over() || timed_out) && !still
    }

    /// When it has lasted too long.
    fn limit(&self) -> Option<Timestamp> {
        let limit = self.service.spec.job.time_limit;
        (!limit.is_zero()).then(|| self.job.started_at.after(limit))
    }

    /// Every slot of the run with what it needs.
    pub(super) fn needs(&self, slots: &[SlotTasks]) -> BTreeMap<Slot, (SlotTasks, Need)> {
        let mut own: BTreeMap<Slot, SlotTasks> = BTreeMap::new();
        for slot in slots {
            let of_run = |task: &&Arc<Task>| task.run == self.job.run && task.desired < DesiredState::Remove;
            let tasks: Vec<Arc<Task>> = slot.tasks.iter().filter(of_run).cloned().collect();
            if !tasks.is_empty() {
                own.insert(slot.slot, SlotTasks { slot: slot.slot, tasks });
            }
        }
        for slot in self.wanted(&own) {
            own.entry(slot).or_insert_with(|| SlotTasks::empty(slot));
        }
        own.into_iter()
            .map(|(slot, tasks)| {
                let need = self.need(&tasks);
                (slot, (tasks, need))
            })
            .collect()
    }

    /// Slots that have to complete.
    fn wanted(&self, own: &BTreeMap<Slot, SlotTasks>) -> Vec<Slot> {
        match self.service.spec.mode {
            ServiceMode::ReplicatedJob { completions, .. } => (0..completions).map(Slot::Number).collect(),
            // Nodes that join later have their turn too.
            _ => self
                .state
                .nodes()
                .filter(|node| {
                    own.contains_key(&Slot::Node(node.id))
                        || fit::takes_global_task(&self.service.spec.task, node)
                })
                .map(|node| Slot::Node(node.id))
                .collect(),
        }
    }

    fn is_wanted(&self, slot: Slot) -> bool {
        match (self.service.spec.mode, slot) {
            (ServiceMode::ReplicatedJob { completions, .. }, Slot::Number(number)) => number < completions,
            (_, Slot::Node(node)) => self.state.node(node).is_some(),
            _ => false,
        }
    }

    fn need(&self, slot: &SlotTasks) -> Need {
        if slot.tasks.iter().any(|task| task.status.state == TaskState::Complete) {
            return Need::Done;
        }
        let ended = match (slot.live(), slot.newest()) {
            (Some(live), _) => return self.need_of_live(slot, live),
            (None, None) => return Need::Fill(None, Duration::ZERO),
            (None, Some(ended)) => ended,
        };
        // What was lost with its node, or stopped, is tried again at once.
        let by_itself = restart::ended_by_itself(ended);
        let refusal = || restart::refusal(self.state, self.service, slot, ended, self.now);
        if let Some(reason) = by_itself.then(refusal).flatten() {
            return Need::Failed(format!("not tried again: {reason}"));
        }
        if let Some(reason) = self.only_node_refuses(slot.slot) {
            return Need::Failed(reason);
        }
        let delay = restart::delay_after(self.state, self.service, ended);
        Need::Fill(Some(Arc::clone(ended)), if by_itself { delay } else { Duration::ZERO })
    }

    /// Why nothing is begun in the slot of a node, whose work no other node does. It goes on when the node takes tasks again.
    fn only_node_refuses(&self, slot: Slot) -> Option<String> {
        let Slot::Node(id) = slot else { return None };
        let why = match self.state.node(id) {
            None => "gone",
            Some(node) if fit::takes_global_task(&self.service.spec.task, node) => return None,
            Some(node) if node.status.state == NodeState::Down => "down",
            Some(node) if node.spec.availability == Availability::Drain => "drained",
            Some(node) if node.spec.availability == Availability::Pause => "paused",
            Some(node) if node.status.state == NodeState::Unknown => "not heard of yet",
            Some(_) => "excluded by a constraint",
        };
        Some(format!("not done while its node is {why}"))
    }

    fn need_of_live(&self, slot: &SlotTasks, live: &Arc<Task>) -> Need {
        let standing = fit::standing(self.state, self.service, live, self.now);
        if matches!(standing, Some(fit::Standing::Leaves | fit::Standing::Draining)) {
            return match slot.slot {
                Slot::Number(_) => Need::Fill(Some(Arc::clone(live)), Duration::ZERO),
                Slot::Node(_) => Need::Leave(Arc::clone(live)),
            };
        }
        let waits = live.start_after.is_some_and(|at| at > self.now);
        if live.desired == DesiredState::Ready && !waits && !self.is_beside(slot.slot, live) {
            Need::Start(Arc::clone(live))
        } else {
            Need::Live
        }
    }

    /// Whether a process of the slot may still run that is not to run beside the task: of an earlier task, or of an earlier run.
    fn is_beside(&self, slot: Slot, task: &Task) -> bool {
        let within_reach = |node: NodeId| !self.state.is_node_lost(node);
        self.state.tasks_of_slot(self.service.id, slot).any(|other| {
            other.id != task.id
                && !self.overlaps(other)
                && other.may_run()
                && other.node.is_some_and(within_reach)
        })
    }

    /// Whether a task is of another run, which goes on beside this one.
    fn overlaps(&self, task: &Task) -> bool {
        super::may_overlap(self.service) && task.run != self.job.run && task.is_live()
    }

    pub(super) fn counts(&self, needs: &BTreeMap<Slot, (SlotTasks, Need)>) -> RunCounts {
        let wanted = || needs.iter().filter(|(slot, _)| self.is_wanted(**slot)).map(|(_, (_, need))| need);
        RunCounts {
            completed: wanted().filter(|need| matches!(need, Need::Done)).count() as u64,
            total: wanted().count() as u64,
            failed: wanted().filter(|need| matches!(need, Need::Failed(_) | Need::Leave(_))).count() as u64,
        }
    }

    /// Starts what may start, and fills as many slots as may be under way at a time: those that were tried first. The service's slots
    /// are in order.
    fn pursue(
        &self,
        slots: &[SlotTasks],
        needs: &BTreeMap<Slot, (SlotTasks, Need)>,
        context: &mut PlanContext<'_>,
        plan: &mut Plan,
    ) {
        let mut fills = Vec::new();
        for (slot, (tasks, need)) in needs {
            match need {
                // Fewer completions are wanted by now.
                _ if !self.is_wanted(*slot) => tasks.clear(self.service.version, plan),
                // Done meanwhile, by a task that was lost to sight.
                Need::Done => {
                    let live = tasks.tasks.iter().filter(|task| task.is_live());
                    live.for_each(|task| give_up(task, self.service, plan));
                }
                Need::Live => {
                    let waits = tasks.live().and_then(|task| task.start_after).filter(|at| *at > self.now);
                    waits.into_iter().for_each(|at| plan.wake(at));
                }
                Need::Start(task) => start(task, self.service, plan),
                Need::Fill(instead, delay) => fills.push((tasks, instead, *delay)),
                Need::Leave(task) => give_up(task, self.service, plan),
                Need::Failed(reason) => {
                    let (service, slot, reason) = (self.service.id, Some(*slot), reason.clone());
                    plan.waiting.push(Waiting { service, slot, tasks: 1, reason });
                }
            }
        }
        fills.sort_by_key(|(tasks, instead, _)| (instead.is_none(), tasks.slot));
        let (mut under_way, most) = (self.under_way(slots, needs), self.at_a_time());
        for (tasks, instead, delay) in fills {
            // What leaves its node is under way, and so is what comes in its place.
            let moves = instead.as_deref().is_some_and(|task| task.is_live() && self.is_within_reach(task));
            let free = match under_way.contains(&tasks.slot) {
                // It is prepared while what is there stops, so that there is one of them at a time.
                true => under_way.len() <= most,
                false => under_way.len() < most,
            };
            if !moves && !free {
                continue;
            }
            under_way.insert(tasks.slot);
            // Tasks of an earlier run in this slot may still be stopping.
            let known = slots.binary_search_by_key(&tasks.slot, |slot| slot.slot).ok();
            let beside = known.and_then(|at| slots.get(at)).unwrap_or(tasks);
            let held = beside.tasks.iter().filter(|task| !self.overlaps(task)).cloned().collect();
            let all = SlotTasks { slot: tasks.slot, tasks: held };
            all.refill(self.state, self.service, instead.as_deref(), delay, context, plan);
        }
    }

    fn at_a_time(&self) -> usize {
        match self.service.spec.mode {
            ServiceMode::ReplicatedJob { concurrent, .. } if concurrent > 0 => {
                usize::try_from(concurrent).unwrap_or(usize::MAX)
            }
            _ => usize::MAX,
        }
    }

    /// Slots with a task that is wanted, or that may still run although it is not: those of earlier runs count as well, so that there
    /// are never more than the operator allows. Runs that may overlap count each for itself.
    fn under_way(&self, slots: &[SlotTasks], needs: &BTreeMap<Slot, (SlotTasks, Need)>) -> BTreeSet<Slot> {
        // This very plan gives it up, and nobody has to stop it.
        let goes = |task: &Task| {
            let is_done = matches!(needs.get(&task.slot), Some((_, Need::Done)));
            task.node.is_none() && (is_done || !self.is_wanted(task.slot))
        };
        let counts = |task: &&Arc<Task>| {
            let is_there = if task.run == self.job.run {
                (task.is_live() || task.may_run()) && !goes(task)
            } else {
                task.may_run() && !super::may_overlap(self.service)
            };
            is_there && self.is_within_reach(task)
        };
        slots.iter().flat_map(|slot| &slot.tasks).filter(counts).map(|task| task.slot).collect()
    }

    /// Whether the task's node, if it has one, is not lost.
    fn is_within_reach(&self, task: &Task) -> bool {
        task.node.is_none_or(|node| !self.state.is_node_lost(node))
    }

    /// The time is over.
    fn stop(&self, slots: &[SlotTasks], plan: &mut Plan) {
        let live = slots.iter().flat_map(|slot| &slot.tasks).filter(|task| task.run == self.job.run);
        live.filter(|task| task.is_live()).for_each(|task| give_up(task, self.service, plan));
    }
}
