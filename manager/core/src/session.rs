//! Which nodes are there: sessions and heartbeats as a state machine in the leader's memory.
//!
//! Owns no socket and no clock: it is told of sessions and of the time, and tells which node states are to
//! be written. It compares with what the store says ([`Liveness::reconcile`]), so that a verdict that could
//! not be written is given again.
//!
//! ```text
//!            opened          synced
//!  absent ──────────▶ open ─────────▶ ready
//!    ▲  ▲              │ closed / silent │
//!    │  └── too late ──┴─────◀── waits ◀─┘
//! ```
//!
//! - A closed stream: the node is down after the grace. Silence for three heartbeat periods: the same end.
//! - A new leader gives nodes that were not down twice that silence to appear.
//! - If more than half of the nodes are missed at once (silent for half of that counts, as heartbeats are spread), nobody is
//!   declared down until more than half are back or five minutes pass: it is more likely that this manager is the one cut off. While most managers and
//!   a worker are here it is not, and half a minute is enough. When more than half are back, the others have twice that silence to
//!   follow.
//! - Time for which the leader itself stood still (a paused machine, memory that is swapped out) does not count: it heard nobody.
//! - A node that an operator drains is never held back: its tasks are to leave it in any case.

mod contact;
mod storm;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use coracle_model::id::{NodeId, SessionId};
use coracle_model::node::{Availability, Node, NodeState};
use coracle_model::role::Role;
use coracle_model::time::Timestamp;

use contact::Contact;
use storm::Storm;

pub use storm::{Holds, LONGEST_HOLD, SHORT_HOLD};

/// Heartbeat periods without a sign of life before a node is missed.
pub const PERIODS_OF_SILENCE: u32 = 3;
/// Heartbeats that the leader wants to see at most, each second.
pub const HEARTBEATS_PER_SECOND: u64 = 1000;

/// Why a node is down that joined and never held a session: its join broke off.
pub const NEVER_HEARD: &str = "it joined, and was never heard";

/// What operators can tune.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Least period of heartbeats.
    pub heartbeat_period: Duration,
    /// How long a node may be gone once its connection is closed.
    pub grace: Duration,
}

/// What the store says of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Which node.
    pub id: NodeId,
    /// Its state.
    pub state: NodeState,
    /// Whether it takes part in Raft or is to do so.
    pub manager: bool,
    /// Whether an operator wants nothing on it.
    pub drained: bool,
}

/// A node that is back is ready when it has stopped what was replaced elsewhere; if that takes longer, the operator is told.
const STOPS_WITHIN: Duration = Duration::from_secs(5);
const STILL_STOPS: &str = "it is back, and is ready once the tasks that were replaced while it was gone have ended on it: see `coracle node ps`";

impl From<&Node> for Known {
    fn from(node: &Node) -> Self {
        let manager = node.manager.is_some() || node.spec.role == Role::Manager;
        let drained = node.spec.availability == Availability::Drain;
        Self { id: node.id, state: node.status.state, manager, drained }
    }
}

/// That nobody is declared down at the moment, because most nodes vanished at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Until when at most.
    pub until: Timestamp,
    /// How long it may last in all.
    pub longest: Duration,
    /// Nodes that are missed.
    pub missed: Vec<NodeId>,
    /// Of how many that were ready.
    pub nodes: usize,
    /// Most managers and a worker are here, so that the hold is a short one.
    pub grounded: bool,
}

/// A node state that is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Of which node.
    pub node: NodeId,
    /// Its state from now on.
    pub state: NodeState,
    /// Why, for the operator.
    pub message: String,
}

/// What the leader knows of the presence of all nodes.
#[derive(Debug, Clone)]
pub struct Liveness {
    settings: Settings,
    holds: Holds,
    nodes: BTreeMap<NodeId, Entry>,
    storm: Storm,
}

#[derive(Debug, Clone)]
struct Entry {
    /// What the store says.
    stored: NodeState,
    manager: bool,
    drained: bool,
    contact: Contact,
    /// When the operator is told what a node that is back is waited for.
    tell_at: Option<Timestamp>,
}

impl Entry {
    fn is_in_step(&self) -> bool {
        matches!(self.contact, Contact::Open { synced: true, .. })
    }
}

impl Liveness {
    /// What a new leader knows: the states of nodes in the store, and nothing of their sessions.
    #[must_use]
    pub fn new_leader(now: Timestamp, nodes: impl IntoIterator<Item = Known>, settings: Settings) -> Self {
        let (holds, storm) = (Holds::default(), Storm::default());
        let mut liveness = Self { settings, holds, nodes: BTreeMap::new(), storm };
        liveness.reconcile(nodes, now);
        liveness
    }

    /// With other times for which evictions are held back.
    #[must_use]
    pub fn with_holds(self, holds: Holds) -> Self {
        Self { holds, ..self }
    }

    /// Takes over which nodes there are and what the store says of them.
    pub fn reconcile(&mut self, nodes: impl IntoIterator<Item = Known>, now: Timestamp) {
        let stored: BTreeMap<NodeId, Known> = nodes.into_iter().map(|known| (known.id, known)).collect();
        let silence = self.silence_of(stored.len());
        self.nodes.retain(|node, _| stored.contains_key(node));
        for (node, Known { state, manager, drained, .. }) in stored {
            let entry = self.nodes.entry(node).or_insert_with(|| Entry {
                stored: state,
                manager,
                drained,
                contact: match state {
                    NodeState::Down => Contact::Absent,
                    NodeState::Ready | NodeState::Unknown => Contact::expected(now, silence),
                },
                tell_at: None,
            });
            (entry.stored, entry.manager, entry.drained) = (state, manager, drained);
        }
    }

    /// A session began; it replaces an earlier one of the node.
    pub fn opened(&mut self, node: NodeId, session: SessionId, now: Timestamp) {
        let entry = self.nodes.entry(node).or_insert(Entry {
            stored: NodeState::Unknown,
            manager: false,
            drained: false,
            contact: Contact::Absent,
            tell_at: None,
        });
        entry.contact = Contact::Open { session, heard: now, synced: false };
        entry.tell_at = Some(now.after(STOPS_WITHIN));
    }

    /// The agent has stopped what it should not run: the node is ready from now on.
    pub fn synced(&mut self, node: NodeId, session: SessionId, now: Timestamp) {
        if let Some(Contact::Open { heard, synced, .. }) = self.session(node, session) {
            *heard = now;
            *synced = true;
        }
    }

    /// A sign of life. Tells whether the session is the node's present one.
    pub fn heard(&mut self, node: NodeId, session: SessionId, now: Timestamp) -> bool {
        match self.session(node, session) {
            Some(Contact::Open { heard, .. }) => {
                *heard = now;
                true
            }
            _ => false,
        }
    }

    /// A session's connection ended. The end of a session that was replaced means nothing.
    pub fn closed(&mut self, node: NodeId, session: SessionId, now: Timestamp) {
        let grace = self.settings.grace;
        if let Some(contact) = self.session(node, session) {
            *contact = Contact::Closed { deadline: now.after(grace), grace };
        }
    }

    /// This leader itself did not run for `late`, until now: nobody was silent meanwhile, it only did not listen. To be told before the
    /// next [`Self::tick`]. Who was over before stays over.
    pub fn excuse(&mut self, late: Duration, now: Timestamp) {
        self.nodes.values_mut().for_each(|entry| entry.contact.excuse(late, now));
        self.storm.excuse(late, now);
    }

    /// Whether the node holds a session.
    #[must_use]
    pub fn is_connected(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|entry| matches!(entry.contact, Contact::Open { .. }))
    }

    /// The period of heartbeats: grows with the cluster, so that the leader sees a bounded rate.
    #[must_use]
    pub fn period(&self) -> Duration {
        self.period_of(self.nodes.len())
    }

    /// The states that are to be written now.
    pub fn tick(&mut self, now: Timestamp) -> Vec<Verdict> {
        let silence = self.silence_of(self.nodes.len());
        let missed = self.count(now);
        let was_held = self.storm.held_until(&self.holds).is_some();
        let held = self.storm.holds(now, missed, &self.holds);
        // Not that time is over, nor that an operator knows better.
        let is_eased = was_held && self.storm == Storm::Calm && missed.enough_are_back();
        let judge = |(node, entry): (&NodeId, &mut Entry)| {
            entry.contact.age(now, silence);
            if is_eased && !entry.drained && entry.stored == NodeState::Ready && entry.contact.is_over(now) {
                entry.contact = Contact::late(now, silence);
            }
            let verdict = |state, message| Some(Verdict { node: *node, state, message });
            match (&entry.contact, entry.stored) {
                (Contact::Open { synced: true, .. }, NodeState::Unknown | NodeState::Down) => {
                    verdict(NodeState::Ready, String::new())
                }
                (Contact::Open { .. }, NodeState::Down) if entry.tell_at.is_some_and(|at| at <= now) => {
                    entry.tell_at = None;
                    verdict(NodeState::Down, STILL_STOPS.to_owned())
                }
                (contact, stored @ (NodeState::Unknown | NodeState::Ready))
                    if (!held || entry.drained) && contact.is_over(now) =>
                {
                    let never = stored == NodeState::Unknown && matches!(contact, Contact::Expected { .. });
                    verdict(NodeState::Down, if never { NEVER_HEARD.to_owned() } else { contact.reason() })
                }
                _ => None,
            }
        };
        self.nodes.iter_mut().filter_map(judge).collect()
    }

    /// When `tick` may have something new to tell, unless something else happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let silence = self.silence_of(self.nodes.len());
        let held_until = self.storm.held_until(&self.holds);
        // While nobody is declared down, deadlines that are over wait for the end of that.
        let waits = |entry: &Entry, deadline: Timestamp| {
            held_until.filter(|_| !entry.drained).map_or(deadline, |until| deadline.max(until))
        };
        let expected = self.nodes.values().filter(|entry| entry.stored != NodeState::Down);
        expected.filter_map(|entry| Some(waits(entry, entry.contact.deadline(silence)?))).min()
    }

    /// How many nodes count, and how many of them will be over within one grace unless they come back.
    fn count(&self, now: Timestamp) -> storm::Missed {
        let silence = self.silence_of(self.nodes.len());
        let is_overdue =
            |entry: &Entry| entry.contact.deadline(silence).is_none_or(|deadline| deadline <= now);
        storm::Missed {
            nodes: self.counted().count(),
            missed: self.missed(now).count(),
            gone: self.gone(now).count(),
            overdue: self.missed(now).filter(|(_, entry)| is_overdue(entry)).count(),
            grounded: self.is_grounded(now, silence),
        }
    }

    fn counted(&self) -> impl Iterator<Item = (NodeId, &Entry)> {
        let counts = |(_, entry): &(&NodeId, &Entry)| entry.stored == NodeState::Ready;
        self.nodes.iter().filter(counts).map(|(node, entry)| (*node, entry))
    }

    /// Nodes that will be over within one grace unless they come back, without those that are drained: that is known of them.
    fn missed(&self, now: Timestamp) -> impl Iterator<Item = (NodeId, &Entry)> {
        self.gone(now).filter(|(_, entry)| !entry.drained)
    }

    fn gone(&self, now: Timestamp) -> impl Iterator<Item = (NodeId, &Entry)> {
        let silence = self.silence_of(self.nodes.len());
        let horizon = now.after(self.settings.grace);
        let over = move |entry: &Entry| match entry.contact {
            Contact::Open { .. } => entry.contact.is_late(now, silence),
            _ => entry.contact.deadline(silence).is_none_or(|deadline| deadline <= horizon),
        };
        self.counted().filter(move |(_, entry)| over(entry))
    }

    /// Whether most of the managers hold sessions that are in step, and a worker is heard, so that this leader is not cut off. Where
    /// there are no workers the managers are enough.
    fn is_grounded(&self, now: Timestamp, silence: Duration) -> bool {
        let here = |entry: &&Entry| entry.is_in_step() && !entry.contact.is_late(now, silence);
        let managers = || self.nodes.values().filter(|entry| entry.manager);
        let workers =
            || self.nodes.values().filter(|entry| !entry.manager && entry.stored == NodeState::Ready);
        managers().filter(here).count() * 2 > managers().count()
            && (workers().next().is_none() || workers().any(|entry| here(&entry)))
    }

    /// Whether evictions are held back at `now`, and why.
    #[must_use]
    pub fn held(&self, now: Timestamp) -> Option<Held> {
        let until = self.storm.held_until(&self.holds)?;
        let missed = self.missed(now).map(|(node, _)| node).collect();
        let (nodes, longest) = (self.counted().count(), self.holds.longest);
        Some(Held { until, longest, missed, nodes, grounded: self.storm.is_grounded() })
    }

    fn session(&mut self, node: NodeId, session: SessionId) -> Option<&mut Contact> {
        let contact = &mut self.nodes.get_mut(&node)?.contact;
        matches!(contact, Contact::Open { session: present, .. } if *present == session).then_some(contact)
    }

    fn period_of(&self, nodes: usize) -> Duration {
        let nodes = u64::try_from(nodes).unwrap_or(u64::MAX);
        self.settings
            .heartbeat_period
            .max(Duration::from_millis(nodes.saturating_mul(1000) / HEARTBEATS_PER_SECOND))
    }

    fn silence_of(&self, nodes: usize) -> Duration {
        self.period_of(nodes) * PERIODS_OF_SILENCE
    }
}
