//! Jobs: services whose tasks are to end with success.
//!
//! A *run* is one time through: so many completions, or one on every node. Tasks name their run, and a slot of a run is done when
//! one of its tasks completed. Everything is counted from the tasks themselves, so a new leader comes to the same numbers and
//! counts nothing twice. An update begins the next run; what is left of the one before makes place first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use coracle_model::cron::{Cron, time_zone};
use coracle_model::id::NodeId;
use coracle_model::job::{Concurrency, JobStatus};
use coracle_model::node::{Availability, NodeState};
use coracle_model::service::{Service, ServiceMode};
use coracle_model::task::{DesiredState, Slot, Task, TaskState};
use coracle_model::time::Timestamp;

use super::slot::{SlotTasks, give_up};
use super::{fit, restart};
use crate::change::Change;
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
enum Need {
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

/// Keeps the present run going, and begins and ends runs.
pub(super) fn plan(
    state: &State,
    service: &Service,
    slots: &[SlotTasks],
    context: &mut PlanContext<'_>,
) -> Plan {
    let mut plan = Plan::default();
    let Some(job) = service.job else { return plan };
    let now = context.present(state);
    if let Some(next) = begin_when_due(service, job, now, &mut plan) {
        plan.changes.push(next);
        return plan;
    }
    make_way(service, slots, job, &mut plan);
    if job.run == 0 {
        return plan;
    }
    let run = Run { state, service, job, now };
    let needs = run.needs(slots);
    let counts = run.counts(&needs);
    let limit = run.limit();
    if limit.is_some_and(|limit| limit <= now) {
        run.stop(slots, &mut plan);
    } else {
        run.pursue(slots, &needs, context, &mut plan);
        if let Some(limit) = limit.filter(|_| !counts.is_over()) {
            plan.wake(limit);
        }
    }
    run.note_end(counts, limit.is_some_and(|limit| limit <= now), slots, &mut plan);
    plan
}

/// What the present run has come to.
pub(crate) fn counts(state: &State, service: &Service, slots: &[SlotTasks], now: Timestamp) -> RunCounts {
    let Some(job) = service.job.filter(|job| job.run > 0) else { return RunCounts::default() };
    let run = Run { state, service, job, now };
    run.counts(&run.needs(slots))
}

/// Why slots of the present run will not be done.
pub(crate) fn failures(state: &State, service: &Service, slots: &[SlotTasks], now: Timestamp) -> Vec<String> {
    let Some(job) = service.job.filter(|job| job.run > 0) else { return Vec::new() };
    let run = Run { state, service, job, now };
    let failed = run.needs(slots).into_values().filter_map(|(_, need)| match need {
        Need::Failed(reason) => Some(reason),
        _ => None,
    });
    failed.collect()
}

/// A due time that is longer ago than this, because no manager could plan, is left out.
const CATCH_UP: Duration = Duration::from_secs(600);

/// What runs by the clock: the next run, or the note that a due one is left out. Of several due times that were missed only the
/// last counts.
fn begin_when_due(service: &Service, job: JobStatus, now: Timestamp, plan: &mut Plan) -> Option<Change> {
    let schedule = service.spec.job.schedule.as_ref()?;
    let (Ok(cron), Ok(zone)) = (schedule.cron.parse::<Cron>(), time_zone(&schedule.timezone)) else {
        // Checked when the service was written; a zone may be unknown to an older program.
        let reason = format!("schedule {:?} in {:?} cannot be read", schedule.cron, schedule.timezone);
        plan.waiting.push(Waiting { service: service.id, slot: None, tasks: 0, reason });
        return None;
    };
    let missed = Timestamp::from_nanos(now.as_nanos().saturating_sub(nanos(CATCH_UP)));
    let mut due = None;
    let mut next = cron.next_after(job.scheduled_until.max(missed), &zone)?;
    while next <= now {
        due = Some(next);
        next = cron.next_after(next, &zone)?;
    }
    let Some(due) = due else {
        plan.wake(next);
        return None;
    };
    let open = job.run > 0 && job.ended_at.is_none();
    let job = if open && schedule.concurrency == Concurrency::Forbid {
        JobStatus { scheduled_until: due, ..job }
    } else {
        JobStatus { run: job.run + 1, started_at: now, ended_at: None, scheduled_until: due }
    };
    Some(Change::SetJobStatus { service: service.id, expected: service.version, job })
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Whether runs may go on beside later ones.
fn may_overlap(service: &Service) -> bool {
    let schedule = service.spec.job.schedule.as_ref();
    schedule.is_some_and(|schedule| schedule.concurrency == Concurrency::Allow)
}

/// Tasks of earlier runs are taken away, unless runs may overlap or history is kept.
fn make_way(service: &Service, slots: &[SlotTasks], job: JobStatus, plan: &mut Plan) {
    let overlap = may_overlap(service);
    let kept = service.spec.job.schedule.as_ref().map_or(0, |schedule| u64::from(schedule.history));
    for task in slots.iter().flat_map(|slot| &slot.tasks).filter(|task| task.run < job.run) {
        let old = task.run + kept < job.run;
        let unwanted = if task.status.state.is_terminal() { old } else { !overlap };
        if unwanted && task.desired < DesiredState::Remove {
            plan.changes.push(Change::RaiseDesired { task: task.id, desired: DesiredState::Remove });
        }
    }
}

struct Run<'a> {
    state: &'a State,
    service: &'a Service,
    job: JobStatus,
    now: Timestamp,
}

impl Run<'_> {
    /// When it has lasted too long.
    fn limit(&self) -> Option<Timestamp> {
        let limit = self.service.spec.job.time_limit;
        (!limit.is_zero()).then(|| self.job.started_at.after(limit))
    }

    /// Every slot of the run with what it needs.
    fn needs(&self, slots: &[SlotTasks]) -> BTreeMap<Slot, (SlotTasks, Need)> {
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
        let standing = |node: NodeId| fit::standing(self.state, self.service, node, self.now);
        if live
            .node
            .map(standing)
            .is_some_and(|standing| matches!(standing, fit::Standing::Leaves | fit::Standing::Draining))
        {
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
            let overlaps = may_overlap(self.service) && other.run < task.run && other.is_live();
            other.id != task.id && !overlaps && other.may_run() && other.node.is_some_and(within_reach)
        })
    }

    fn counts(&self, needs: &BTreeMap<Slot, (SlotTasks, Need)>) -> RunCounts {
        let wanted = || needs.iter().filter(|(slot, _)| self.is_wanted(**slot)).map(|(_, (_, need))| need);
        RunCounts {
            completed: wanted().filter(|need| matches!(need, Need::Done)).count() as u64,
            total: wanted().count() as u64,
            failed: wanted().filter(|need| matches!(need, Need::Failed(_) | Need::Leave(_))).count() as u64,
        }
    }

    /// Starts what may start, and fills as many slots as may be under way at a time: those that were tried first.
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
                _ if !self.is_wanted(*slot) => tasks.clear(plan),
                // Done meanwhile, by a task that was lost to sight.
                Need::Done => {
                    tasks.tasks.iter().filter(|task| task.is_live()).for_each(|task| give_up(task, plan))
                }
                Need::Live => {
                    let waits = tasks.live().and_then(|task| task.start_after).filter(|at| *at > self.now);
                    waits.into_iter().for_each(|at| plan.wake(at));
                }
                Need::Start(task) => {
                    let desired = DesiredState::Running;
                    plan.changes.push(Change::RaiseDesired { task: task.id, desired });
                }
                Need::Fill(instead, delay) => fills.push((tasks, instead, *delay)),
                Need::Leave(task) => give_up(task, plan),
                Need::Failed(reason) => {
                    let (service, slot, reason) = (self.service.id, Some(*slot), reason.clone());
                    plan.waiting.push(Waiting { service, slot, tasks: 1, reason });
                }
            }
        }
        fills.sort_by_key(|(tasks, instead, _)| (instead.is_none(), tasks.slot));
        let room = self.at_a_time().saturating_sub(self.under_way(slots));
        for (tasks, instead, delay) in fills.into_iter().take(room) {
            // Tasks of an earlier run in this slot may still be stopping.
            let beside = slots.iter().find(|slot| slot.slot == tasks.slot).unwrap_or(tasks);
            let overlaps =
                |task: &Arc<Task>| may_overlap(self.service) && task.run < self.job.run && task.is_live();
            let held = beside.tasks.iter().filter(|task| !overlaps(task)).cloned().collect();
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

    /// Slots with a task that is wanted, or that may still run although it is not: those of earlier runs count as well, so
    /// that there are never more than the operator allows.
    fn under_way(&self, slots: &[SlotTasks]) -> usize {
        let counts = |task: &&Arc<Task>| {
            let overlapping = task.run < self.job.run && task.desired <= DesiredState::Running;
            !overlapping && self.is_within_reach(task) && (task.is_live() || task.may_run())
        };
        let slots: BTreeSet<Slot> =
            slots.iter().flat_map(|slot| &slot.tasks).filter(counts).map(|task| task.slot).collect();
        slots.len()
    }

    /// Whether the task's node, if it has one, is not lost.
    fn is_within_reach(&self, task: &Task) -> bool {
        task.node.is_none_or(|node| !self.state.is_node_lost(node))
    }

    /// The time is over.
    fn stop(&self, slots: &[SlotTasks], plan: &mut Plan) {
        let live = slots.iter().flat_map(|slot| &slot.tasks).filter(|task| task.run == self.job.run);
        live.filter(|task| task.is_live()).for_each(|task| give_up(task, plan));
    }

    /// Comes last in the plan: it raises the service's version, which the tasks made before it name.
    fn note_end(&self, counts: RunCounts, timed_out: bool, slots: &[SlotTasks], plan: &mut Plan) {
        // A node that never comes back would keep the run open for ever.
        let runs =
            |task: &Arc<Task>| task.run == self.job.run && task.may_run() && self.is_within_reach(task);
        let still = slots.iter().flat_map(|slot| &slot.tasks).any(runs);
        let is_over = (counts.is_over() || timed_out) && !still;
        let ended_at = is_over.then_some(self.job.ended_at.unwrap_or(self.now));
        if ended_at != self.job.ended_at {
            let job = JobStatus { ended_at, ..self.job };
            let (service, expected) = (self.service.id, self.service.version);
            plan.changes.push(Change::SetJobStatus { service, expected, job });
        } else if let (Some(ended), Some(ttl)) = (ended_at, self.service.spec.job.time_to_live) {
            let until = ended.after(ttl);
            if until <= self.now {
                let (service, expected) = (self.service.id, self.service.version);
                plan.changes.push(Change::RemoveService { service, expected });
            } else {
                plan.wake(until);
            }
        }
    }
}
