//! The simulated cluster: who is there, what is on its way, and what happens in a step.
#![allow(unreachable_pub, reason = "a part of a test")]

use std::collections::BTreeMap;
use std::time::Duration;

use coracle_manager_core::session::{Liveness, Settings};
use coracle_manager_core::{Change, State, assign, counts};
use coracle_model::id::{NodeId, SessionId, TaskId};
use coracle_model::node::Availability;
use coracle_model::task::{TaskState, TaskStatus};
use coracle_model::time::Timestamp;

use crate::agent::Agent;
use crate::random::Random;
use crate::world::World;
use crate::{invariants, operator};

const NODES: u128 = 6;
/// Steps after the last fault until everything must be as wanted.
const STEPS_TO_CONVERGE: u32 = 4000;

struct Report {
    at: Timestamp,
    node: NodeId,
    task: TaskId,
    state: TaskState,
}

pub struct Cluster {
    world: World,
    random: Random,
    agents: BTreeMap<NodeId, Agent>,
    liveness: Liveness,
    reports: Vec<Report>,
    sessions: u128,
    faults: bool,
}

impl Cluster {
    pub fn new(seed: u64) -> Self {
        let mut world = World::default();
        let mut random = Random(seed);
        world.add_nodes(NODES);
        world.set_history(random.below(4) as i32);
        for _ in 0..3 {
            operator::create(&mut world, &mut random);
        }
        let agents = world.nodes.values().map(|node| (*node, Agent::new(*node))).collect();
        let liveness = leader(&world);
        Self { world, random, agents, liveness, reports: Vec::new(), sessions: 0, faults: true }
    }

    /// Some time passes, and something happens.
    pub fn step(&mut self) {
        let before = self.world.state.clone();
        let pause = 100 + self.random.below(900);
        self.world.tick(Duration::from_millis(pause));
        if self.faults {
            self.break_something();
        }
        self.agents_act();
        self.deliver();
        self.judge();
        self.plan();
        invariants::check(&before, &self.world, self.agents.values());
    }

    /// The faults stop, everybody comes back, and all services come to what is wanted.
    pub fn converge(&mut self) {
        self.faults = false;
        for node in self.agents.keys().copied().collect::<Vec<_>>() {
            self.world.update_node(node, |spec| spec.availability = Availability::Active);
            // Zone a is there, so that every constraint can be met.
            self.world.update_node(node, |spec| drop(spec.labels.insert("zone".to_owned(), "a".to_owned())));
        }
        for agent in self.agents.values_mut() {
            agent.alive = true;
            agent.linked = true;
        }
        for _ in 0..STEPS_TO_CONVERGE {
            self.step();
            if self.is_converged() {
                return;
            }
        }
        for service in self.world.state.services() {
            eprintln!("{:?} {:#?}", service.update, counts::progress(&self.world.state, service.id));
        }
        for task in self.world.state.tasks() {
            eprintln!("{}", self.world.task_line(task));
        }
        panic!("the cluster does not converge");
    }

    fn is_converged(&self) -> bool {
        let state = &self.world.state;
        self.world.services.values().all(|service| {
            let progress = counts::progress(state, *service);
            // What has no room has none; everything else is as wanted.
            progress.converged || (progress.waiting.iter().any(|reason| reason.contains("not enough")))
        })
    }

    fn break_something(&mut self) {
        let nodes: Vec<NodeId> = self.agents.keys().copied().collect();
        let node = nodes[self.random.below(nodes.len() as u64) as usize];
        match self.random.below(20) {
            0 => self.crash(node),
            1 => self.cut(node),
            2..=4 => self.repair(node),
            5 => self.change_leader(),
            6..=8 => operator::act(&mut self.world, &mut self.random),
            _ => {}
        }
    }

    fn crash(&mut self, node: NodeId) {
        let now = self.world.now;
        let agent = self.agents.get_mut(&node).unwrap();
        if let Some(session) = agent.session.filter(|_| self.random.percent(50)) {
            self.liveness.closed(node, session, now);
        }
        agent.crash();
    }

    fn cut(&mut self, node: NodeId) {
        let agent = self.agents.get_mut(&node).unwrap();
        agent.linked = false;
        agent.session = None;
    }

    fn repair(&mut self, node: NodeId) {
        let agent = self.agents.get_mut(&node).unwrap();
        agent.linked = true;
        agent.alive = true;
    }

    /// Another manager leads: it has the snapshot, and nothing that was in memory. Its clock is behind.
    fn change_leader(&mut self) {
        self.world.state = State::from_records(self.world.state.records()).unwrap();
        self.liveness = leader(&self.world);
        self.reports.clear();
        self.agents.values_mut().for_each(|agent| agent.session = None);
    }

    fn agents_act(&mut self) {
        let failures = if self.faults { 4 } else { 0 };
        let now = self.world.now;
        for agent in self.agents.values_mut() {
            if agent.alive && agent.linked {
                let session = *agent.session.get_or_insert_with(|| {
                    self.sessions += 1;
                    SessionId::from_bits(self.sessions)
                });
                if !self.liveness.heard(agent.node, session, now) {
                    // The leader knows no such session: a new one begins.
                    self.sessions += 1;
                    let session = SessionId::from_bits(self.sessions);
                    agent.begin(session);
                    self.liveness.opened(agent.node, session, now);
                }
                if self.random.percent(70) {
                    agent.learn(&assign::assignments(&self.world.state, agent.node));
                }
            }
            agent.act(&mut self.random, failures);
            let Some(session) = agent.session.filter(|_| agent.alive && agent.linked) else { continue };
            if agent.is_synced() {
                self.liveness.synced(agent.node, session, now);
            }
            for (task, state) in agent.news(&mut self.random) {
                let at = now.after(Duration::from_millis(self.random.below(1500)));
                self.reports.push(Report { at, node: agent.node, task, state });
            }
        }
    }

    /// Reports arrive in any order.
    fn deliver(&mut self) {
        let now = self.world.now;
        let (mut due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.reports).into_iter().partition(|report| report.at <= now);
        self.reports = later;
        self.random.shuffle(&mut due);
        let report = |report: Report| Change::ReportTask {
            task: report.task,
            node: Some(report.node),
            status: TaskStatus { state: report.state, since: report.at, ..TaskStatus::default() },
        };
        let changes: Vec<Change> = due.into_iter().map(report).collect();
        self.world.write(changes);
    }

    fn judge(&mut self) {
        let nodes: Vec<_> = self.world.state.nodes().map(|node| (node.id, node.status.state)).collect();
        self.liveness.reconcile(nodes, self.world.now);
        for verdict in self.liveness.tick(self.world.now) {
            let change =
                Change::SetNodeStatus { node: verdict.node, state: verdict.state, message: verdict.message };
            self.world.write(vec![change]);
        }
    }

    /// Either all loops run until nothing is left, or some plan from one view and are applied in any order,
    /// some too late.
    fn plan(&mut self) {
        if self.random.percent(30) {
            self.world.settle();
            return;
        }
        let mut batches = Vec::new();
        for key in self.world.keys() {
            if self.random.percent(70) {
                batches.extend(self.world.plan(key).into_batches(3));
            }
        }
        if self.random.percent(50) {
            self.random.shuffle(&mut batches);
        }
        for batch in batches {
            if self.random.percent(90) {
                // Refused ones are planned again.
                let _ = self.world.apply(batch);
            }
        }
    }
}

fn leader(world: &World) -> Liveness {
    let settings = Settings { heartbeat_period: Duration::from_millis(1500), grace: Duration::from_secs(3) };
    Liveness::new_leader(world.now, world.state.nodes().map(|node| (node.id, node.status.state)), settings)
}
