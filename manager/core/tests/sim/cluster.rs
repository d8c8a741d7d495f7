//! The simulated cluster: who is there, what is on its way, and what happens in a step.
#![allow(unreachable_pub, reason = "a part of a test")]

use std::collections::BTreeMap;
use std::time::Duration;

use coracle_manager_core::{Change, Proposal, State, counts};
use coracle_model::id::{NodeId, SessionId};
use coracle_model::node::{Availability, NodeState};
use coracle_model::task::{TaskState, TaskStatus};
use coracle_model::time::Timestamp;

use crate::agent::{Agent, Assignments, News};
use crate::invariants;
use crate::lead::Lead;
use crate::log::{Author, Log};
use crate::random::Random;
use crate::seen::Seen;
use crate::world::{World, build};
use crate::{fault, operator};

const NODES: u128 = 6;
/// Simulated time after the last fault until everything must be as wanted: an update of every slot one by one, with
/// every delay there is, is far below.
const CONVERGED_WITHIN: Duration = Duration::from_secs(300);
/// Simulated time after the last fault in which leaders still change.
const CHANGING: Duration = Duration::from_secs(60);
/// Steps without a write after which nothing more will come.
const QUIET: u32 = 40;
/// Most a clock is off, in milliseconds.
const CLOCKS: u64 = 5000;

/// Something on its way from the leader to an agent, or back, within one session.
struct Message {
    due: Timestamp,
    node: NodeId,
    session: SessionId,
    what: What,
}

enum What {
    Assignments(Assignments),
    Synced,
}

/// A manager that has not noticed that it no longer leads: its view stands still.
pub struct Deposed {
    lead: Lead,
    view: State,
    steps: u64,
}

pub struct Cluster {
    pub log: Log,
    pub random: Random,
    pub agents: BTreeMap<NodeId, Agent>,
    pub lead: Lead,
    pub deposed: Vec<Deposed>,
    messages: Vec<Message>,
    sessions: u128,
    serials: u64,
    faults: bool,
    orphans: invariants::Orphans,
    outages: invariants::Outages,
    moved: invariants::Moved,
    pub seen: Seen,
}

impl Cluster {
    pub fn new(seed: u64) -> Self {
        let mut world = World::default();
        let mut random = Random(seed);
        for number in 1..=NODES {
            let resources = build::resources(4 * build::CPU, 8 * build::GIB);
            let mut node = build::node(number, &format!("n{number}"), resources);
            operator::equip(&mut node);
            world.add_node(node);
        }
        world.set_history(random.below(4) as i32);
        for _ in 0..3 {
            operator::create(&mut world, &mut random);
        }
        let agents =
            world.nodes.values().map(|node| (*node, Agent::new(*node, clock(&mut random)))).collect();
        let log = Log::new(world);
        let lead = Lead::new(0, log.term, clock(&mut random), &log.world.state, log.now);
        Self {
            log,
            random,
            agents,
            lead,
            deposed: Vec::new(),
            messages: Vec::new(),
            sessions: 0,
            serials: 0,
            faults: true,
            orphans: invariants::Orphans::default(),
            outages: invariants::Outages::default(),
            moved: invariants::Moved::default(),
            seen: Seen::default(),
        }
    }

    pub fn state(&self) -> &State {
        &self.log.world.state
    }

    /// Some time passes, and something happens.
    pub fn step(&mut self) {
        let before = self.state().clone();
        self.log.now = self.log.now.after(Duration::from_millis(50 + self.random.below(900)));
        self.log.world.now = self.log.now;
        if self.faults {
            fault::strike(self);
        }
        self.agents_act();
        self.deliver();
        let view = self.state().clone();
        self.lead.judge(&mut self.log, &view, &mut self.random);
        self.lead.plan(&mut self.log, &view, &mut self.random);
        self.send_assignments(&view);
        self.deposed_act();
        self.land(&before);
        self.orphans.look(&self.log.world.state, self.log.now);
        self.moved.look(&self.log.world.state);
        self.seen.look(&self.log.world.state);
        self.check(&before);
    }

    fn check(&mut self, before: &State) {
        let world = &self.log.world;
        let mut found = invariants::every_step(before, world, self.agents.values(), &self.moved);
        found.extend(self.outages.look(before, &world.state, self.log.now).err());
        found.extend(invariants::updates_end(&world.state, self.log.now).err());
        found.extend(self.orphans.check(self.log.now).err());
        // Dear, and indices that are wrong stay wrong.
        if self.random.percent(6) {
            found.extend(invariants::snapshots_restore(&world.state).err());
        }
        if self.random.percent(6) {
            // Settling finds on the way whether planning twice changes anything.
            let mut settled = world.clone();
            settled.settle();
            found.extend(invariants::once_settled(&settled.state));
        }
        if !found.is_empty() {
            self.show();
        }
        assert!(found.is_empty(), "{}", found.join("\n"));
    }

    /// The faults stop, everybody comes back, and all services come to what is wanted; then nothing happens any more.
    /// Returns after how many milliseconds of simulated time.
    pub fn converge(&mut self) -> u64 {
        self.faults = false;
        self.log.lossy = false;
        self.deposed.clear();
        let nodes: Vec<NodeId> = self.state().nodes().map(|node| node.id).collect();
        for node in nodes {
            let world = &mut self.log.world;
            world.update_node(node, |spec| spec.availability = Availability::Active);
            // Zone a is there, so that every constraint can be met.
            world.update_node(node, |spec| drop(spec.labels.insert("zone".to_owned(), "a".to_owned())));
            fault::repair(self, node);
        }
        fault::change_leader(self);
        self.deposed.clear();
        let began = self.log.now;
        let (mut quiet, mut index, mut since) = (0, 0, began);
        while self.log.now.since(began) < CONVERGED_WITHIN {
            operator::resume(&mut self.log.world);
            // What goes on by itself when there are no faults goes on under other leaders too.
            if self.log.now.since(began) < CHANGING && self.random.percent(4) {
                fault::change_leader(self);
                self.deposed.clear();
            }
            self.step();
            // What hangs will go on one day.
            if self.state().index() == index && !self.agents.values().any(Agent::hangs) {
                quiet += 1;
            } else {
                (quiet, index, since) = (0, self.state().index(), self.log.now);
            }
            if quiet >= QUIET {
                self.check_converged();
                return u64::try_from(since.since(began).as_millis()).unwrap();
            }
        }
        self.show();
        panic!("the cluster does not come to rest");
    }

    fn check_converged(&self) {
        let state = self.state();
        let unconverged = state.services().find(|service| {
            let progress = counts::progress(state, service.id);
            // What has no room has none; everything else is as wanted.
            let no_room = |reason: &String| {
                ["not enough", "max replicas", "is taken"].iter().any(|word| reason.contains(word))
            };
            !progress.converged && !progress.waiting.iter().any(no_room)
        });
        let amiss = state.nodes().find(|node| node.status.state != NodeState::Ready);
        let wrong = invariants::agents_have_what_is_wanted(state, &self.agents).err();
        if unconverged.is_some() || amiss.is_some() || wrong.is_some() {
            self.show();
            panic!(
                "the cluster rests, but not as wanted: service {:?}, node {:?}, {}",
                unconverged.map(|service| &service.spec.name),
                amiss.map(|node| node.id),
                wrong.unwrap_or_default()
            );
        }
    }

    fn show(&self) {
        for service in self.state().services() {
            eprintln!("{:?} {:#?}", service.update, counts::progress(self.state(), service.id));
        }
        for node in self.state().nodes() {
            eprintln!("{}: {}", self.log.world.node_name(node.id), node.status.state);
        }
        for task in self.state().tasks() {
            eprintln!("{}", self.log.world.task_line(task));
        }
    }

    fn agents_act(&mut self) {
        let failures = if self.faults { 4 } else { 0 };
        let now = self.log.now;
        for node in self.agents.keys().copied().collect::<Vec<_>>() {
            let agent = self.agents.get_mut(&node).unwrap();
            if agent.back_at.take_if(|at| *at <= now).is_some() {
                agent.linked = true;
            }
            agent.act(&mut self.random, failures);
            if !agent.is_reachable() {
                continue;
            }
            let known = agent.session.as_ref().is_some_and(|session| {
                self.lead.sessions.get(&node).is_some_and(|held| held.id == session.id)
                    && self.lead.liveness.heard(node, session.id, now)
            });
            if !known {
                self.begin_session(node);
                continue;
            }
            let id = agent.session.as_ref().unwrap().id;
            let (news, synced) = (agent.news(&mut self.random), agent.says_synced());
            self.report(node, id, news, false);
            if synced {
                self.send(node, id, What::Synced);
            }
        }
    }

    fn begin_session(&mut self, node: NodeId) {
        let Some(agent) = self.agents.get_mut(&node) else { return };
        if let Some(session) = agent.session.take() {
            self.lead.close(node, session.id, self.log.now);
        }
        // It has to find the leader first.
        if self.log.world.state.node(node).is_none() || self.random.percent(40) {
            return;
        }
        self.sessions += 1;
        let id = SessionId::from_bits(self.sessions);
        let hello = agent.begin(id);
        self.lead.open(node, id, self.log.now);
        self.report(node, id, hello, true);
    }

    fn report(&mut self, node: NodeId, session: SessionId, news: Vec<News>, hello: bool) {
        if news.is_empty() && !hello {
            return;
        }
        let since = self.log.clock(self.agents[&node].clock);
        let change = |news: News| {
            let status = TaskStatus {
                state: news.state,
                since,
                local_restarts: news.restarts,
                pid: u32::from(news.state == TaskState::Running),
                ..TaskStatus::default()
            };
            Change::ReportTask { task: news.task, node: Some(node), status }
        };
        let proposal = self.lead.proposal(&self.log, news.into_iter().map(change).collect());
        let author = Author::Report { node, session, hello };
        self.log.propose(&mut self.random, self.lead.serial, proposal, author);
    }

    fn send(&mut self, node: NodeId, session: SessionId, what: What) {
        let soonest = self.log.now.after(Duration::from_millis(self.random.below(900)));
        // Messages of one session arrive in order.
        let before =
            self.messages.iter().filter(|message| message.session == session).map(|message| message.due);
        let due = before.max().map_or(soonest, |before| before.max(soonest));
        self.messages.push(Message { due, node, session, what });
    }

    fn send_assignments(&mut self, view: &State) {
        let sessions: Vec<_> = self.lead.sessions.iter().map(|(node, session)| (*node, session.id)).collect();
        for (node, session) in sessions {
            if let Some(message) = self.lead.message(view, node, session) {
                self.send(node, session, What::Assignments(message));
            }
        }
    }

    fn deliver(&mut self) {
        let now = self.log.now;
        let (due, later) =
            std::mem::take(&mut self.messages).into_iter().partition(|message| message.due <= now);
        self.messages = later;
        let due: Vec<Message> = due;
        for message in due {
            let Some(agent) = self.agents.get_mut(&message.node).filter(|agent| agent.is_reachable()) else {
                continue;
            };
            match message.what {
                What::Assignments(assignments) => {
                    if agent.session.as_ref().is_some_and(|session| session.id == message.session) {
                        agent.learn(assignments);
                    }
                }
                What::Synced => self.lead.liveness.synced(message.node, message.session, now),
            }
        }
    }

    /// A deposed leader goes on with the view that it had: it misses its agents, plans and proposes.
    fn deposed_act(&mut self) {
        for mut deposed in std::mem::take(&mut self.deposed) {
            deposed.lead.judge(&mut self.log, &deposed.view, &mut self.random);
            deposed.lead.plan(&mut self.log, &deposed.view, &mut self.random);
            deposed.steps -= 1;
            if deposed.steps > 0 {
                self.deposed.push(deposed);
            }
        }
    }

    fn land(&mut self, before: &State) {
        while let Some(landed) = self.log.land_next(&mut self.random) {
            if is_traced() {
                self.trace(landed.flight.lead, &landed.flight.proposal, &landed.result, before);
            }
            self.lead.push_touched(&landed.touched, &self.log.world.state);
            if landed.flight.lead == self.lead.serial {
                self.lead.landed(&mut self.log, &mut self.random, landed.flight.author, &landed.result);
            }
        }
    }

    /// Tells what happens that is no entry of the log.
    pub fn tell(&self, what: &str) {
        if is_traced() {
            eprintln!("{:?} term {} lead {}: {what}", self.elapsed(), self.log.term, self.lead.serial);
        }
    }

    fn elapsed(&self) -> Duration {
        self.log.now.since(Timestamp::from_secs(1_000_000))
    }

    fn trace(
        &self,
        lead: u64,
        proposal: &Proposal,
        result: &Result<(), coracle_manager_core::Refusal>,
        before: &State,
    ) {
        let (world, at) = (&self.log.world, self.elapsed());
        for change in &proposal.changes {
            let line = match change {
                Change::ReportTask { task, node, status } => {
                    format!(
                        "report {} on {:?}: {}",
                        world.task_name(*task),
                        node.map(|node| world.node_name(node)),
                        status.state
                    )
                }
                other => world.change_line(other),
            };
            eprintln!("{at:?} {} term {} lead {lead}: {line} ({result:?})", before.index(), proposal.term);
        }
    }

    /// Another manager's memory begins.
    pub fn new_lead(&mut self) -> Lead {
        self.serials += 1;
        let clock = clock(&mut self.random);
        let lead = Lead::new(self.serials, self.log.term, clock, self.state(), self.log.now);
        std::mem::replace(&mut self.lead, lead)
    }

    pub fn depose(&mut self, lead: Lead, view: State) {
        let steps = 1 + self.random.below(8);
        self.deposed.push(Deposed { lead, view, steps });
    }

    pub fn join(&mut self, node: NodeId) {
        let clock = clock(&mut self.random);
        self.agents.insert(node, Agent::new(node, clock));
    }
}

fn is_traced() -> bool {
    std::env::var_os("CORACLE_SIM_TRACE").is_some()
}

fn clock(random: &mut Random) -> i64 {
    random.below(2 * CLOCKS) as i64 - CLOCKS as i64
}
