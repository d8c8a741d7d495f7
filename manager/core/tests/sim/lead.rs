//! What a leader has in memory: liveness, sessions, the queue of its planners. All of it is lost with leadership.
//!
//! Planners are run only for keys that were touched or are due, as the manager's driver does, so that a touched key
//! that is forgotten shows as a cluster that does not converge.
#![allow(unreachable_pub, reason = "a part of a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use coracle_manager_core::assign::{self, Assigned};
use coracle_manager_core::session::{Known, Liveness, Settings};
use coracle_manager_core::{Change, Proposal, Refusal, RefusalKind, State, Touched};
use coracle_model::id::{NodeId, ServiceId, SessionId, TaskId};
use coracle_model::time::Timestamp;

use crate::agent::{Assignments, Told};
use crate::log::{Author, Log};
use crate::random::Random;
use crate::world::{self, Key};

/// Changes in one entry, few, so that plans are split.
const CHANGES_OF_ONE_ENTRY: usize = 4;

#[derive(Debug, Clone)]
pub struct ServerSession {
    pub id: SessionId,
    /// What the agent said first is in the log.
    pub greeted: bool,
    wake: bool,
    begun: bool,
    sent: BTreeMap<TaskId, Assigned>,
}

#[derive(Debug, Clone)]
pub struct Lead {
    /// Tells memories apart: a leader may lose and regain its majority within a term.
    pub serial: u64,
    pub term: u64,
    /// Milliseconds by which its clock is off.
    pub clock: i64,
    pub liveness: Liveness,
    pub sessions: BTreeMap<NodeId, ServerSession>,
    queue: BTreeSet<Key>,
    wake: BTreeMap<Key, Timestamp>,
    under_way: BTreeSet<Key>,
    judging: bool,
}

impl Lead {
    pub fn new(serial: u64, term: u64, clock: i64, state: &State, now: Timestamp) -> Self {
        let settings =
            Settings { heartbeat_period: Duration::from_millis(1500), grace: Duration::from_secs(3) };
        let nodes = state.nodes().map(|node| Known::from(&**node));
        let mut lead = Self {
            serial,
            term,
            clock,
            liveness: Liveness::new_leader(now, nodes, settings),
            sessions: BTreeMap::new(),
            queue: BTreeSet::new(),
            wake: BTreeMap::new(),
            under_way: BTreeSet::new(),
            judging: false,
        };
        lead.push_touched(&Touched::everything(state), state);
        lead
    }

    pub fn proposal(&self, log: &Log, changes: Vec<Change>) -> Proposal {
        Proposal {
            changes,
            actor: "leader".to_owned(),
            reason: String::new(),
            time: log.clock(self.clock),
            idempotency: None,
            term: self.term,
        }
    }

    /// As the manager's queue has it.
    pub fn push_touched(&mut self, touched: &Touched, state: &State) {
        for service in &touched.services {
            self.push_service(*service);
        }
        for service in &touched.services {
            if state.is_rebalanced(*service) {
                self.queue.insert(Key::Rebalance(*service));
            }
        }
        if touched.membership {
            self.queue.extend(state.rebalanced_services().map(Key::Rebalance));
        }
        for node in &touched.changed_nodes {
            self.queue.insert(Key::Node(*node));
            self.queue.extend(state.services_on_node(*node).map(Key::Service));
        }
        for node in &touched.nodes {
            if let Some(session) = self.sessions.get_mut(node) {
                session.wake = true;
            }
        }
        if !touched.changed_nodes.is_empty() {
            self.queue.extend(state.global_services().map(|service| Key::Service(service.id)));
        }
        self.queue.extend(touched.files.iter().map(|file| Key::File(*file)));
        if touched.pending || touched.images || !touched.nodes.is_empty() || !touched.tasks.is_empty() {
            self.queue.insert(Key::Schedule);
        }
    }

    fn push_service(&mut self, service: ServiceId) {
        self.queue.extend([Key::Service(service), Key::Reap(service)]);
    }

    /// Plans the keys whose turn it is, by this view.
    pub fn plan(&mut self, log: &mut Log, view: &State, random: &mut Random) {
        let now = log.clock(self.clock);
        let due: Vec<Key> = self.wake.iter().filter(|(_, at)| **at <= now).map(|(key, _)| *key).collect();
        for key in due {
            self.wake.remove(&key);
            self.queue.insert(key);
        }
        let keys: Vec<Key> = self.queue.iter().filter(|key| !self.under_way.contains(key)).copied().collect();
        for key in keys {
            // The driver has not come round to it yet.
            if random.percent(30) {
                continue;
            }
            self.queue.remove(&key);
            let plan = world::plan(view, key, now, &mut log.world.ids);
            if let Err(problem) = crate::invariants::moves_even_out(view, &plan) {
                panic!("{problem}");
            }
            if plan.is_empty() {
                self.set_wake(key, plan.wake_at);
                continue;
            }
            self.under_way.insert(key);
            let wake_at = plan.wake_at;
            self.propose_next(log, random, key, plan.into_batches(CHANGES_OF_ONE_ENTRY), wake_at);
        }
    }

    fn propose_next(
        &mut self,
        log: &mut Log,
        random: &mut Random,
        key: Key,
        mut batches: Vec<Vec<Change>>,
        wake_at: Option<Timestamp>,
    ) {
        let first = self.proposal(log, batches.remove(0));
        log.propose(random, self.serial, first, Author::Plan { key, rest: batches, wake_at });
    }

    fn set_wake(&mut self, key: Key, at: Option<Timestamp>) {
        match at {
            Some(at) => drop(self.wake.insert(key, at)),
            None => drop(self.wake.remove(&key)),
        }
    }

    /// A write of this leader has landed.
    pub fn landed(
        &mut self,
        log: &mut Log,
        random: &mut Random,
        author: Author,
        result: &Result<(), Refusal>,
    ) {
        match author {
            Author::Plan { key, rest, wake_at } => match result {
                Ok(()) if rest.is_empty() => {
                    self.under_way.remove(&key);
                    self.set_wake(key, wake_at);
                    self.queue.insert(key);
                }
                Ok(()) => self.propose_next(log, random, key, rest, wake_at),
                Err(_) => {
                    self.under_way.remove(&key);
                    let again = log.clock(self.clock).after(Duration::from_millis(5));
                    self.set_wake(key, Some(again));
                }
            },
            Author::Verdicts => self.judging = false,
            Author::Report { node, session, hello } => match (result, self.session(node, session)) {
                (Ok(()), Some(session)) => {
                    session.greeted |= hello;
                    session.wake |= hello;
                }
                (Err(_), Some(_)) => self.close(node, session, log.now),
                (_, None) => {}
            },
            Author::Nobody => {}
        }
        if let Err(refusal) = result {
            assert_ne!(refusal.kind, RefusalKind::Malformed, "{refusal}");
        }
    }

    fn session(&mut self, node: NodeId, id: SessionId) -> Option<&mut ServerSession> {
        self.sessions.get_mut(&node).filter(|session| session.id == id)
    }

    pub fn open(&mut self, node: NodeId, id: SessionId, now: Timestamp) {
        let sent = BTreeMap::new();
        self.sessions.insert(node, ServerSession { id, greeted: false, wake: true, begun: false, sent });
        self.liveness.opened(node, id, now);
    }

    pub fn close(&mut self, node: NodeId, id: SessionId, now: Timestamp) {
        if self.session(node, id).is_some() {
            self.sessions.remove(&node);
        }
        self.liveness.closed(node, id, now);
    }

    /// What the agent of a session is to be told now.
    pub fn message(&mut self, view: &State, node: NodeId, id: SessionId) -> Option<Assignments> {
        let session = self.session(node, id).filter(|session| session.greeted && session.wake)?;
        session.wake = false;
        let wanted = assign::assignments(view, node);
        let difference = assign::difference(&session.sent, &wanted);
        let complete = !session.begun;
        if !complete && difference.is_empty() {
            return None;
        }
        session.begun = true;
        let message = Assignments {
            complete,
            set: difference.set.iter().map(|task| (*task, Told::from(&wanted[task]))).collect(),
            removed: difference.removed,
            checksum: assign::checksum(&wanted),
        };
        session.sent = wanted;
        Some(message)
    }

    /// Judges which nodes are there; one write of verdicts is under way at a time.
    pub fn judge(&mut self, log: &mut Log, view: &State, random: &mut Random) {
        if self.judging {
            return;
        }
        self.liveness.reconcile(view.nodes().map(|node| Known::from(&**node)), log.now);
        let verdicts = self.liveness.tick(log.now);
        if verdicts.is_empty() {
            return;
        }
        self.judging = true;
        let change = |v: coracle_manager_core::session::Verdict| Change::SetNodeStatus {
            node: v.node,
            state: v.state,
            message: v.message,
        };
        let proposal = self.proposal(log, verdicts.into_iter().map(change).collect());
        log.propose(random, self.serial, proposal, Author::Verdicts);
    }
}
