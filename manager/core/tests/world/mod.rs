//! A cluster without machines: a state, a clock that is moved by hand, identifiers that are counted, and
//! names for everything so that tests read well.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

pub mod build;
pub mod show;

use std::collections::BTreeMap;
use std::time::Duration;

use coracle_manager_core::orchestrate::{plan_file, plan_node, plan_reap, plan_rebalance, plan_service};
use coracle_manager_core::schedule::plan_schedule;
use coracle_manager_core::{Change, IdSource, Outcome, Plan, PlanContext, Proposal, State, Touched, apply};
use coracle_model::id::{FileId, NodeId, ServiceId, TaskId};
use coracle_model::task::{DesiredState, Slot, Task, TaskState, TaskStatus};
use coracle_model::time::Timestamp;

/// Rounds of planning before a world that does not settle is reported.
const ROUNDS: usize = 200;

/// Identifiers in the order of asking.
#[derive(Debug, Clone)]
pub struct Counter(pub u128);

impl IdSource for Counter {
    fn next(&mut self) -> u128 {
        self.0 += 1;
        self.0
    }
}

/// A planner and its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Node(NodeId),
    Service(ServiceId),
    Schedule,
    Reap(ServiceId),
    Rebalance(ServiceId),
    File(FileId),
}

/// A cluster without machines.
#[derive(Debug, Clone)]
pub struct World {
    pub state: State,
    pub now: Timestamp,
    pub ids: Counter,
    pub nodes: BTreeMap<String, NodeId>,
    pub services: BTreeMap<String, ServiceId>,
    pub tasks: BTreeMap<TaskId, String>,
    /// The entries so far, each with its term.
    pub entries: Vec<(u64, Proposal)>,
    made: BTreeMap<(ServiceId, Slot), u32>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            state: State::default(),
            now: Timestamp::from_secs(1_000_000),
            ids: Counter(0),
            nodes: BTreeMap::new(),
            services: BTreeMap::new(),
            tasks: BTreeMap::new(),
            entries: Vec::new(),
            made: BTreeMap::new(),
        }
    }
}

impl World {
    pub fn tick(&mut self, by: Duration) {
        self.now = self.now.after(by);
    }

    /// Applies changes as one entry of the log.
    pub fn apply(&mut self, changes: Vec<Change>) -> (Outcome, Touched) {
        let proposal = Proposal {
            changes,
            actor: "test".to_owned(),
            reason: String::new(),
            time: self.now,
            idempotency: None,
            term: 0,
        };
        self.propose(&proposal)
    }

    pub fn propose(&mut self, proposal: &Proposal) -> (Outcome, Touched) {
        let result = self.append(1, proposal);
        // Cluster time rises with every entry, and so does the clock of whoever reads it.
        self.now = self.now.max(self.state.time());
        result
    }

    /// Applies an entry of the log of this term.
    pub fn append(&mut self, term: u64, proposal: &Proposal) -> (Outcome, Touched) {
        let index = self.state.index() + 1;
        let result = apply(&mut self.state, index, term, proposal);
        self.entries.push((term, proposal.clone()));
        if matches!(result.0, Outcome::Applied(_)) {
            proposal.changes.iter().for_each(|change| self.name_task(change));
        }
        result
    }

    /// Applies changes that must not be refused.
    pub fn write(&mut self, changes: Vec<Change>) {
        let (outcome, _) = self.apply(changes.clone());
        assert!(matches!(outcome, Outcome::Applied(_)), "{outcome:?} for {changes:?}");
    }

    fn name_task(&mut self, change: &Change) {
        let Change::CreateTask { task, .. } = change else { return };
        let count = self.made.entry((task.service, task.slot)).or_default();
        *count += 1;
        let count = *count;
        let slot = match task.slot {
            Slot::Number(number) => number.to_string(),
            Slot::Node(node) => self.node_name(node),
        };
        self.tasks.insert(task.id, format!("{}.{slot}#{count}", self.service_name(task.service)));
    }

    pub fn node_name(&self, id: NodeId) -> String {
        self.nodes
            .iter()
            .find(|(_, node)| **node == id)
            .map_or_else(|| "?".to_owned(), |(name, _)| name.clone())
    }

    pub fn service_name(&self, id: ServiceId) -> String {
        self.services
            .iter()
            .find(|(_, known)| **known == id)
            .map_or_else(|| "?".to_owned(), |(name, _)| name.clone())
    }

    /// The text with names in place of the identifiers of tasks.
    pub fn with_task_names(&self, text: &str) -> String {
        let named = |text: String, (id, name): (&TaskId, &String)| text.replace(&id.to_string(), name);
        self.tasks.iter().fold(text.to_owned(), named)
    }

    /// The task of this name; without a number after `#`, the newest of its slot.
    pub fn task(&self, name: &str) -> Task {
        let newest = self
            .tasks
            .iter()
            .filter(|(_, known)| {
                *known == name || known.split_once('#').is_some_and(|(slot, _)| slot == name)
            })
            .filter_map(|(id, _)| self.state.task(*id))
            .max_by_key(|task| task.created_at);
        (**newest.unwrap_or_else(|| panic!("no task {name}"))).clone()
    }

    pub fn keys(&self) -> Vec<Key> {
        let mut services: Vec<ServiceId> = self.services.values().copied().collect();
        services.sort();
        let mut nodes: Vec<NodeId> = self.nodes.values().copied().collect();
        nodes.sort();
        nodes
            .into_iter()
            .map(Key::Node)
            .chain(services.iter().copied().map(Key::Service))
            .chain([Key::Schedule])
            .chain(services.iter().copied().map(Key::Rebalance))
            .chain(services.iter().copied().map(Key::Reap))
            .chain(self.state.files().map(|file| Key::File(file.id)))
            .collect()
    }

    pub fn plan(&mut self, key: Key) -> Plan {
        plan(&self.state, key, self.now, &mut self.ids)
    }

    /// Plans all keys until nothing changes, and checks that a key planned again right away wants nothing.
    pub fn settle(&mut self) -> Settled {
        let mut settled = Settled::default();
        for _ in 0..ROUNDS {
            let mut quiet = true;
            settled.rest = Plan::default();
            for key in self.keys() {
                let plan = self.plan(key);
                quiet &= plan.is_empty();
                let changes = plan.changes.clone();
                for batch in plan.clone().into_batches(100) {
                    self.write(batch);
                }
                settled.lines.extend(changes.iter().map(|change| self.change_line(change)));
                settled.rest.merge(Plan { changes: Vec::new(), ..plan });
                let again = self.plan(key);
                // A rollback, a newer secret, the begin or the removal of a job is another wish, as if an operator had spoken.
                let rolled_back = changes.iter().any(|change| {
                    matches!(
                        change,
                        Change::RollBackService { .. }
                            | Change::RemoveService { .. }
                            | Change::SetJobStatus { .. }
                            | Change::FollowFile { .. }
                    )
                });
                assert!(
                    again.is_empty() || rolled_back,
                    "{key:?} planned {changes:?} and then {:?}",
                    again.changes.iter().map(|change| self.change_line(change)).collect::<Vec<_>>()
                );
            }
            if quiet {
                return settled;
            }
        }
        panic!("planning does not come to an end: {:?}", settled.lines);
    }

    /// Reports how a task fares, as its node would.
    pub fn report(&mut self, task: &Task, state: TaskState, error: &str) {
        let status = TaskStatus { state, since: self.now, error: error.to_owned(), ..TaskStatus::default() };
        self.write(vec![Change::ReportTask { task: task.id, node: task.node, status }]);
    }

    /// Every agent that is there does what is wanted of it.
    pub fn agents_obey(&mut self) {
        let tasks: Vec<Task> = self
            .state
            .tasks()
            .filter(|task| task.may_run() && task.node.is_some_and(|node| !self.state.is_node_lost(node)))
            .map(|task| (**task).clone())
            .collect();
        for task in tasks {
            let state = match task.desired {
                DesiredState::Ready => TaskState::Ready,
                DesiredState::Running => TaskState::Running,
                DesiredState::Shutdown | DesiredState::Remove => TaskState::Shutdown,
            };
            if task.status.state < state {
                self.report(&task, state, "");
            }
        }
    }

    /// Planners and agents take turns until nothing happens any more at this time.
    pub fn converge(&mut self) {
        for _ in 0..ROUNDS {
            let before = self.state.clone();
            self.settle();
            self.agents_obey();
            if before.tasks().eq(self.state.tasks()) && before.services().eq(self.state.services()) {
                return;
            }
        }
        panic!("planners and agents do not come to an end");
    }
}

/// What the planner of a key wants by this view, at this time.
pub fn plan(state: &State, key: Key, now: Timestamp, ids: &mut Counter) -> Plan {
    let mut context = PlanContext { now, ids };
    match key {
        Key::Node(node) => plan_node(state, node, &mut context),
        Key::Service(service) => plan_service(state, service, &mut context),
        Key::Schedule => plan_schedule(state, &mut context),
        Key::Reap(service) => plan_reap(state, service, &mut context),
        Key::Rebalance(service) => plan_rebalance(state, service, &mut context),
        Key::File(file) => plan_file(state, file, &mut context),
    }
}

/// What settling did.
#[derive(Debug, Default)]
pub struct Settled {
    /// The changes, in words.
    pub lines: Vec<String>,
    /// What the last round waits for.
    pub rest: Plan,
}
