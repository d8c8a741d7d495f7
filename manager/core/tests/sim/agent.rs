//! An agent without containers: it learns late, acts late, reports late, and dies.
#![allow(unreachable_pub, reason = "a part of a test")]

use std::collections::{BTreeMap, BTreeSet};

use coracle_manager_core::assign::Assigned;
use coracle_model::checksum;
use coracle_model::id::{NodeId, ServiceId, SessionId, TaskId};
use coracle_model::task::{DesiredState, Slot, TaskState};
use coracle_model::time::Timestamp;
use coracle_model::version::Version;

use crate::random::Random;

/// Steps that an agent does for a task that hangs: about three minutes, longer than any time-out of an update with all slack, and
/// shorter than everything may take to come to rest.
const HANGS: u32 = 190;

/// What a manager tells an agent of one task.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    pub service: ServiceId,
    pub slot: Slot,
    pub spec_version: Version,
    pub desired: DesiredState,
    /// It is to end.
    pub job: bool,
}

impl From<&Assigned> for Told {
    fn from(assigned: &Assigned) -> Self {
        let task = &assigned.task;
        Self {
            service: task.service,
            slot: task.slot,
            spec_version: task.spec_version,
            desired: task.desired,
            job: task.run > 0,
        }
    }
}

/// A message with assignments.
#[derive(Debug, Clone)]
pub struct Assignments {
    pub complete: bool,
    pub set: Vec<(TaskId, Told)>,
    pub removed: Vec<TaskId>,
    pub checksum: u64,
}

/// A task as its agent has it.
#[derive(Debug, Clone)]
pub struct Local {
    pub told: Told,
    pub state: TaskState,
    /// Whether its process exists.
    pub process: bool,
    pub restarts: u32,
    /// For how many more steps it does not come to run, as when its image does not come; not known before it is begun.
    hangs: Option<u32>,
    /// No longer assigned: it goes when it has ended.
    dropped: bool,
    /// What was said of it in this session.
    reported: Option<(TaskState, u32)>,
}

/// What an agent says of a task.
#[derive(Debug, Clone, Copy)]
pub struct News {
    pub task: TaskId,
    pub state: TaskState,
    pub restarts: u32,
}

#[derive(Debug, Clone)]
pub struct Session {
    pub id: SessionId,
    assigned: BTreeMap<TaskId, Told>,
    /// What must have ended before it is in step; none before the complete set came, and once it said so.
    waits_for: Option<BTreeSet<TaskId>>,
}

#[derive(Debug, Clone)]
pub struct Agent {
    pub node: NodeId,
    pub powered: bool,
    pub linked: bool,
    /// When a short cut ends.
    pub back_at: Option<Timestamp>,
    /// Its node was removed, and it was told so.
    pub removed: bool,
    /// Milliseconds by which its clock is off.
    pub clock: i64,
    pub session: Option<Session>,
    pub tasks: BTreeMap<TaskId, Local>,
}

impl Agent {
    pub fn new(node: NodeId, clock: i64) -> Self {
        let tasks = BTreeMap::new();
        Self { node, powered: true, linked: true, back_at: None, removed: false, clock, session: None, tasks }
    }

    pub fn is_reachable(&self) -> bool {
        self.powered && self.linked && !self.removed
    }

    /// A session begins; what it says first is everything that it has.
    pub fn begin(&mut self, id: SessionId) -> Vec<News> {
        self.session = Some(Session { id, assigned: BTreeMap::new(), waits_for: None });
        let mut hello = Vec::new();
        for (id, task) in self.tasks.iter_mut().filter(|(_, task)| !task.dropped) {
            task.reported = Some((task.state, task.restarts));
            hello.push(News { task: *id, state: task.state, restarts: task.restarts });
        }
        hello
    }

    /// Takes over what a manager tells.
    pub fn learn(&mut self, message: Assignments) {
        let Some(session) = &mut self.session else { return };
        for (id, told) in message.set {
            session.assigned.insert(id, told);
        }
        for id in &message.removed {
            session.assigned.remove(id);
        }
        let all = session.assigned.iter().map(|(id, told)| (*id, told.spec_version, told.desired));
        assert_eq!(checksum::assignments(all), message.checksum, "assignments do not add up");
        for (id, told) in &session.assigned {
            let local = self.tasks.entry(*id).or_insert(Local {
                told: *told,
                state: TaskState::Accepted,
                process: false,
                restarts: 0,
                hangs: None,
                dropped: false,
                reported: None,
            });
            local.told.desired = local.told.desired.max(told.desired);
        }
        for (_, local) in self.tasks.iter_mut().filter(|(id, _)| !session.assigned.contains_key(id)) {
            local.dropped = true;
            local.told.desired = DesiredState::Remove;
        }
        if message.complete {
            let stale = self
                .tasks
                .iter()
                .filter(|(_, task)| task.told.desired > DesiredState::Running && !task.state.is_terminal());
            session.waits_for = Some(stale.map(|(id, _)| *id).collect());
        }
    }

    /// Whether everything has stopped that the complete set did not want; told once.
    pub fn says_synced(&mut self) -> bool {
        let Some(session) = &mut self.session else { return false };
        let Some(waits_for) = &mut session.waits_for else { return false };
        waits_for.retain(|id| self.tasks.get(id).is_some_and(|task| !task.state.is_terminal()));
        let synced = waits_for.is_empty();
        if synced {
            session.waits_for = None;
        }
        synced
    }

    /// Does a part of what is wanted; now and then something fails.
    pub fn act(&mut self, random: &mut Random, failures: u64) {
        if !self.powered {
            return;
        }
        let offline = self.session.is_none();
        for (id, task) in self.tasks.iter_mut().filter(|(_, task)| !task.state.is_terminal()) {
            // Some take long to stop.
            let stubborn = id.bits().is_multiple_of(3) && task.told.desired > DesiredState::Running;
            if random.percent(if stubborn { 85 } else { 40 }) {
                continue;
            }
            let hangs =
                task.hangs.get_or_insert_with(|| if random.percent(failures / 2) { HANGS } else { 0 });
            if *hangs > 0 && task.told.desired <= DesiredState::Running {
                *hangs -= 1;
                continue;
            }
            match task.told.desired {
                DesiredState::Shutdown | DesiredState::Remove => task.end(TaskState::Shutdown),
                _ if random.percent(failures) => match random.below(4) {
                    0 => task.end(TaskState::Complete),
                    1 if task.state < TaskState::Running => task.end(TaskState::Rejected),
                    // Nobody to ask: the process is started again.
                    2 | 3 if offline && task.process => task.restarts += 1,
                    _ => task.end(TaskState::Failed),
                },
                DesiredState::Ready => task.state = task.state.max(TaskState::Ready),
                DesiredState::Running if task.state < TaskState::Ready => task.state = TaskState::Ready,
                DesiredState::Running if task.told.job && task.process => {
                    if random.percent(40) {
                        task.end(TaskState::Complete);
                    }
                }
                DesiredState::Running => {
                    task.state = TaskState::Running;
                    task.process = true;
                }
            }
        }
        self.tasks.retain(|_, task| !(task.dropped && task.state.is_terminal()));
    }

    /// Whether a task of it that should run hangs.
    pub fn hangs(&self) -> bool {
        let hangs = |task: &Local| task.hangs.is_some_and(|steps| steps > 0) && !task.state.is_terminal();
        self.powered && self.tasks.values().any(hangs)
    }

    /// The machine loses power: so does everything on it.
    pub fn crash(&mut self) {
        self.powered = false;
        self.session = None;
        self.tasks.values_mut().for_each(|task| task.process = false);
    }

    /// The machine is back. What ran on it is started again or reported as ended, or nothing is known any more.
    pub fn boot(&mut self, random: &mut Random) {
        self.powered = true;
        if random.percent(20) {
            self.tasks.clear();
        }
        for task in self.tasks.values_mut().filter(|task| task.state == TaskState::Running) {
            if task.told.desired <= DesiredState::Running && random.percent(50) {
                task.process = true;
                task.restarts += 1;
            } else {
                task.end(TaskState::Failed);
            }
        }
    }

    /// The node is told that it was removed: it stops everything.
    pub fn leave(&mut self) {
        self.removed = true;
        self.session = None;
        self.tasks.clear();
    }

    /// What it has not said in this session.
    pub fn news(&mut self, random: &mut Random) -> Vec<News> {
        let mut news = Vec::new();
        for (id, task) in self.tasks.iter_mut().filter(|(_, task)| !task.dropped) {
            let says = Some((task.state, task.restarts));
            if task.reported != says && random.percent(70) {
                task.reported = says;
                news.push(News { task: *id, state: task.state, restarts: task.restarts });
            }
        }
        news
    }

    /// Tasks whose process exists.
    pub fn processes(&self) -> impl Iterator<Item = (TaskId, &Local)> + '_ {
        self.tasks.iter().filter(|(_, task)| task.process).map(|(id, task)| (*id, task))
    }
}

impl Local {
    fn end(&mut self, state: TaskState) {
        self.state = state;
        self.process = false;
    }

    /// A task whose process exists, for tests of the invariants.
    #[cfg(test)]
    pub fn running(told: Told) -> Self {
        Self {
            told,
            state: TaskState::Running,
            process: true,
            restarts: 0,
            hangs: None,
            dropped: false,
            reported: None,
        }
    }
}
