//! An agent without containers: it learns late, acts late, reports late, and dies.
#![allow(unreachable_pub, reason = "a part of a test")]

use std::collections::BTreeMap;

use coracle_manager_core::assign::Assigned;
use coracle_model::id::{NodeId, SessionId, TaskId};
use coracle_model::task::{DesiredState, TaskState};

use crate::random::Random;

/// A task as its agent has it.
#[derive(Debug, Clone, Copy)]
pub struct Local {
    pub desired: DesiredState,
    pub state: TaskState,
    pub reported: TaskState,
}

#[derive(Debug, Clone)]
pub struct Agent {
    pub node: NodeId,
    pub alive: bool,
    pub linked: bool,
    pub session: Option<SessionId>,
    pub tasks: BTreeMap<TaskId, Local>,
    /// Whether this session's complete set has arrived.
    pub told: bool,
}

impl Agent {
    pub fn new(node: NodeId) -> Self {
        Self { node, alive: true, linked: true, session: None, tasks: BTreeMap::new(), told: false }
    }

    pub fn begin(&mut self, session: SessionId) {
        self.session = Some(session);
        self.told = false;
        for task in self.tasks.values_mut() {
            task.reported = TaskState::Assigned;
        }
    }

    /// Takes over the present assignments.
    pub fn learn(&mut self, assignments: &BTreeMap<TaskId, Assigned>) {
        self.told = true;
        // What is no longer assigned is stopped and forgotten.
        self.tasks.retain(|id, _| assignments.contains_key(id));
        for (id, assigned) in assignments {
            let local = self.tasks.entry(*id).or_insert(Local {
                desired: assigned.task.desired,
                state: TaskState::Assigned,
                reported: TaskState::Assigned,
            });
            assert!(assigned.task.desired >= local.desired, "the desired state of {id} went back");
            local.desired = assigned.task.desired;
        }
    }

    /// Whether everything that should not run has stopped.
    pub fn is_synced(&self) -> bool {
        self.told
            && self
                .tasks
                .values()
                .all(|task| task.desired <= DesiredState::Running || task.state.is_terminal())
    }

    /// Does a part of what is wanted; now and then something fails.
    pub fn act(&mut self, random: &mut Random, failures: u64) {
        if !self.alive {
            return;
        }
        for task in self.tasks.values_mut().filter(|task| !task.state.is_terminal()) {
            if random.percent(40) {
                continue;
            }
            task.state = match task.desired {
                DesiredState::Shutdown | DesiredState::Remove => TaskState::Shutdown,
                _ if random.percent(failures) => match random.below(3) {
                    0 => TaskState::Complete,
                    1 => TaskState::Rejected,
                    _ => TaskState::Failed,
                },
                DesiredState::Ready => task.state.max(TaskState::Ready),
                DesiredState::Running if task.state < TaskState::Ready => TaskState::Ready,
                DesiredState::Running => TaskState::Running,
            };
        }
    }

    /// The machine dies: so does everything on it.
    pub fn crash(&mut self) {
        self.alive = false;
        self.session = None;
        for task in self.tasks.values_mut().filter(|task| !task.state.is_terminal()) {
            task.state = if task.state < TaskState::Running { task.state } else { TaskState::Failed };
        }
    }

    /// What it would say now.
    pub fn news(&mut self, random: &mut Random) -> Vec<(TaskId, TaskState)> {
        let mut news = Vec::new();
        for (id, task) in &mut self.tasks {
            if task.state > task.reported && random.percent(70) {
                task.reported = task.state;
                news.push((*id, task.state));
            }
        }
        news
    }

    /// Tasks whose process exists.
    pub fn processes(&self) -> impl Iterator<Item = TaskId> + '_ {
        let runs = |task: &Local| self.alive && task.state == TaskState::Running;
        self.tasks.iter().filter(move |(_, task)| runs(task)).map(|(id, _)| *id)
    }
}
