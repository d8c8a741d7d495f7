//! The shell around the core's state machine of heartbeats: gives it time, writes its verdicts.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use coracle_manager_core::change::Change;
use coracle_manager_core::session::{Held, Holds, Known, Liveness, NEVER_HEARD, Settings, Verdict};
use coracle_manager_core::state::State;
use coracle_model::cluster::ClusterSpec;
use coracle_model::id::{NodeId, SessionId};
use coracle_model::node::{Node, NodeState};
use coracle_model::time::Timestamp;
use coracle_model::version::Version;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::store::{Store, Wake, Write, now};

/// Longest sleep: nodes that were added meanwhile are noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// Sleeping longer than was meant by more than this is standing still: timers of a busy machine are late too.
const STALL: Duration = Duration::from_secs(1);
/// Between messages about standing still.
const SAY_EVERY: Duration = Duration::from_secs(60);
/// How long a node whose join broke off is kept: its machine may have lost power just then, and its operator may look for it.
const KEEP_NEVER_HEARD: Duration = Duration::from_secs(600);
/// Wait before verdicts that could not be written are tried again.
const RETRY: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Shared {
    machine: Mutex<Liveness>,
    /// Time since then by the monotonic clock, so that a set clock or a suspended machine makes nobody silent.
    began: (Timestamp, Instant),
    changed: Notify,
}

/// Where sessions tell of signs of life; cheap to clone.
#[derive(Debug, Clone)]
pub struct LivenessHandle(Arc<Shared>);

impl LivenessHandle {
    fn with<T>(&self, action: impl FnOnce(&mut Liveness, Timestamp) -> T) -> T {
        let (wall, monotonic) = self.0.began;
        let now = wall.after(monotonic.elapsed());
        action(&mut self.0.machine.lock().unwrap_or_else(PoisonError::into_inner), now)
    }

    fn tell(&self, action: impl FnOnce(&mut Liveness, Timestamp)) {
        self.with(action);
        self.0.changed.notify_one();
    }

    /// A session began.
    pub fn opened(&self, node: NodeId, session: SessionId) {
        self.tell(|machine, now| machine.opened(node, session, now));
    }

    /// The agent has stopped what it should not run; its node can be used.
    pub fn synced(&self, node: NodeId, session: SessionId) {
        self.tell(|machine, now| machine.synced(node, session, now));
    }

    /// A sign of life. No notification: it only moves a deadline into the future. Says whether the session still counts: one that was
    /// silent for too long does not, and its agent is to begin a new one.
    #[must_use]
    pub fn heard(&self, node: NodeId, session: SessionId) -> bool {
        self.with(|machine, now| machine.heard(node, session, now))
    }

    /// The session's connection ended.
    pub fn closed(&self, node: NodeId, session: SessionId) {
        self.tell(|machine, now| machine.closed(node, session, now));
    }

    /// What an operator should know: that nobody is declared down at the moment, and why.
    #[must_use]
    pub fn notice(&self, state: &State) -> Option<String> {
        self.with(|machine, now| machine.held(now).map(|held| notice(state, &held, now)))
    }

    /// The period that agents are told.
    #[must_use]
    pub fn period(&self) -> Duration {
        self.with(|machine, _| machine.period())
    }

    /// When the node was last heard, if it has a session.
    #[must_use]
    pub fn is_connected(&self, node: NodeId) -> bool {
        self.with(|machine, _| machine.is_connected(node))
    }
}

fn notice(state: &State, held: &Held, now: Timestamp) -> String {
    let Held { until, longest, missed, nodes, grounded } = held;
    let (left, gone) = (until.since(now).as_secs(), missed.len());
    let why = if *grounded {
        "most managers and a worker are here, so that it is soon believed".to_owned()
    } else {
        format!(
            "it may be this leader that is cut off, which is believed for up to {} s unless most managers and a worker are here",
            longest.as_secs()
        )
    };
    format!(
        "{gone} of {nodes} nodes vanished at once ({}): none is declared down, and none of their tasks is replaced, for another \
         {left} s unless most come back; {why}; for one that you know to be lost, do not wait: `coracle node update --availability \
         drain NODE`, or `coracle node rm --force NODE` if it never comes back",
        named(state, missed)
    )
}

/// The host names of the first few.
fn named(state: &State, nodes: &[NodeId]) -> String {
    const SHOWN: usize = 5;
    let name = |node: &NodeId| {
        let known = state.node(*node).map(|node| node.description.hostname.clone());
        known.filter(|name| !name.is_empty()).unwrap_or_else(|| node.to_string())
    };
    let mut names: Vec<String> = nodes.iter().map(name).collect();
    names.sort();
    let more = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    if more > 0 { format!("{}, and {more} more", names.join(", ")) } else { names.join(", ") }
}

/// The handle and the task behind it.
pub fn start(
    store: Store,
    term: u64,
    holds: Holds,
    stop: CancellationToken,
) -> (LivenessHandle, impl Future<Output = ()>) {
    let view = store.view();
    let spec = view.cluster().map_or_else(ClusterSpec::default, |cluster| cluster.spec.clone());
    let settings = Settings { heartbeat_period: spec.heartbeat_period, grace: spec.node_grace };
    let nodes = view.nodes().map(|node| Known::from(&**node));
    let began = (now(), Instant::now());
    let machine = Mutex::new(Liveness::new_leader(began.0, nodes, settings).with_holds(holds));
    let handle = LivenessHandle(Arc::new(Shared { machine, began, changed: Notify::new() }));
    (handle.clone(), run(store, term, handle, stop))
}

async fn run(store: Store, term: u64, handle: LivenessHandle, stop: CancellationToken) {
    let mut feed = store.watch();
    let mut held: Option<String> = None;
    let mut stalls = Stalls::default();
    loop {
        let (verdicts, holding) = handle.with(|machine, now| {
            let view = store.view();
            machine.reconcile(view.nodes().map(|node| Known::from(&**node)), now);
            (machine.tick(now), machine.held(now).map(|held| notice(&view, &held, now)))
        });
        match (&held, &holding) {
            (None, Some(notice)) => warn!("{notice}"),
            (Some(_), None) => {
                info!("most nodes are back, or are lost for sure: nodes may be declared down again")
            }
            _ => {}
        }
        held = holding;
        if !verdicts.is_empty() {
            tokio::select! {
                () = stop.cancelled() => return,
                () = stalls.excused(&handle, write(&store, term, verdicts)) => {}
            }
        }
        // A new leader may be one after an outage of everything: whoever joined just before has the same time from now on.
        if handle.0.began.1.elapsed() >= KEEP_NEVER_HEARD {
            stalls.excused(&handle, remove_never_heard(&store, term)).await;
        }
        let next = handle.with(|machine, now| machine.next_deadline().map(|at| at.since(now)));
        let sleep = next.unwrap_or(LONGEST_SLEEP).clamp(Duration::from_millis(1), LONGEST_SLEEP);
        let awaited = async {
            tokio::select! {
                () = handle.0.changed.notified() => {}
                () = wait_for_nodes(&mut feed) => {}
                () = tokio::time::sleep(sleep) => {}
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = stalls.excused(&handle, awaited) => {}
        }
    }
}

/// Notices that this process did not run, which must not count as silence of nodes: their heartbeats wait to be read then.
#[derive(Debug, Default)]
struct Stalls {
    /// When it was last said.
    said: Option<Instant>,
}

impl Stalls {
    /// Waits for `future`, and excuses whoever was not heard because nothing ran meanwhile.
    async fn excused(&mut self, handle: &LivenessHandle, future: impl Future<Output = ()>) {
        tokio::pin!(future);
        loop {
            let asleep = Instant::now();
            let is_over = tokio::select! {
                () = &mut future => true,
                () = tokio::time::sleep(LONGEST_SLEEP) => false,
            };
            self.look(handle, asleep.elapsed());
            if is_over {
                return;
            }
        }
    }

    fn look(&mut self, handle: &LivenessHandle, elapsed: Duration) {
        if elapsed <= LONGEST_SLEEP + STALL {
            return;
        }
        // All of it: nobody knows when in that time it began, and nobody gets more than if they had been heard now.
        handle.with(|machine, now| machine.excuse(elapsed, now));
        if self.said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
            self.said = Some(Instant::now());
            warn!(
                "the leader itself stood still for {:.1} s: nodes are given as much longer; is its machine short of memory, or was it \
                 paused?",
                elapsed.as_secs_f64()
            );
        }
    }
}

/// Waits until a node object was touched.
async fn wait_for_nodes(feed: &mut crate::store::TouchedReceiver) {
    loop {
        match feed.next().await {
            Wake::Touched(touched) if touched.changed_nodes.is_empty() => {}
            Wake::Touched(_) | Wake::Resync => return,
            Wake::Closed => return std::future::pending().await,
        }
    }
}

async fn write(store: &Store, term: u64, verdicts: Vec<Verdict>) {
    for Verdict { node, message, .. } in verdicts.iter().filter(|verdict| verdict.state == NodeState::Down) {
        warn!(%node, reason = message, "node is down");
    }
    let returning: Vec<NodeId> = verdicts
        .iter()
        .filter(|verdict| verdict.state == NodeState::Ready)
        .map(|verdict| verdict.node)
        .collect();
    let change = |v: Verdict| Change::SetNodeStatus { node: v.node, state: v.state, message: v.message };
    let changes = verdicts.into_iter().map(change).collect();
    if let Err(error) = store.propose(Write { term, ..Write::internal("node liveness", changes) }).await {
        // `reconcile` compares with the store, so that what was not written is judged again.
        warn!(%error, "the state of nodes could not be written; trying again");
        tokio::time::sleep(RETRY).await;
        return;
    }
    let view = store.view();
    for node in returning {
        // A node on which tasks that were given up still stop is not ready before they have; it is judged again.
        if view.node(node).is_some_and(|node| node.status.state == NodeState::Ready) {
            info!(%node, "node is ready");
        }
    }
}

/// Removes the nodes whose join broke off: nobody else would.
async fn remove_never_heard(store: &Store, term: u64) {
    for (node, expected) in never_heard(&store.view(), store.present()) {
        info!(%node, "a node that joined was never heard; its join broke off, and it is removed");
        let change = Change::RemoveNode { node, expected };
        let write = Write { term, ..Write::internal("join broke off", vec![change]) };
        if let Err(error) = store.propose(write).await {
            // It was heard meanwhile, or the next look tries again.
            debug!(%node, %error, "a node that was never heard was not removed");
        }
    }
}

/// Nodes that joined long ago and never held a session.
fn never_heard(state: &State, now: Timestamp) -> Vec<(NodeId, Version)> {
    let over = |node: &&Arc<Node>| {
        node.status.state == NodeState::Down
            && node.status.message == NEVER_HEARD
            && node.manager.is_none()
            && node.created_at.after(KEEP_NEVER_HEARD) <= now
    };
    state.nodes().filter(over).map(|node| (node.id, node.version)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use coracle_manager_core::{Proposal, apply};
    use coracle_model::node::{Availability, ManagerMember, NodeDescription, NodeSpec, NodeStatus};
    use coracle_model::role::Role;

    use super::*;

    fn node(bits: u128, state: NodeState, message: &str, raft_id: Option<u64>) -> Change {
        let spec =
            NodeSpec { role: Role::Worker, availability: Availability::Active, labels: BTreeMap::new() };
        Change::CreateNode(Node {
            id: NodeId::from_bits(bits),
            version: Version::default(),
            created_at: Timestamp::EPOCH,
            spec,
            description: NodeDescription::default(),
            status: NodeStatus {
                state,
                since: Timestamp::EPOCH,
                message: message.to_owned(),
                address: String::new(),
            },
            manager: raft_id.map(|raft_id| ManagerMember { raft_id, address: String::new() }),
        })
    }

    #[test]
    fn only_a_leader_that_stood_still_gives_nodes_longer() {
        let told = |elapsed: Duration| {
            let (first, asleep) = (Timestamp::from_secs(1000), Duration::from_secs(10));
            let (node, session) = (NodeId::from_bits(1), SessionId::from_bits(1));
            let known = Known { id: node, state: NodeState::Ready, manager: false, drained: false };
            let settings =
                Settings { heartbeat_period: Duration::from_millis(1500), grace: Duration::from_secs(3) };
            let mut machine = Liveness::new_leader(first, [known], settings);
            machine.opened(node, session, first);
            let began = (first, Instant::now().checked_sub(asleep).unwrap());
            let shared = Shared { machine: Mutex::new(machine), began, changed: Notify::new() };
            let handle = LivenessHandle(Arc::new(shared));
            Stalls::default().look(&handle, elapsed);
            handle.with(|machine, _| machine.tick(first.after(asleep)).len())
        };
        assert_eq!(told(LONGEST_SLEEP + STALL), 1, "a timer that is a little late");
        assert_eq!(told(Duration::from_secs(10)), 0, "nothing ran for all of the silence");
    }

    #[test]
    fn a_node_whose_join_broke_off_is_removed_after_a_while() {
        let joined = Timestamp::from_secs(1000);
        let proposal = Proposal {
            changes: vec![
                node(1, NodeState::Down, NEVER_HEARD, None),
                node(2, NodeState::Down, "no heartbeat for 4.5s", None),
                node(3, NodeState::Ready, "", None),
                node(4, NodeState::Unknown, "joined; not heard yet", None),
                node(5, NodeState::Down, NEVER_HEARD, Some(7)),
            ],
            actor: String::new(),
            reason: String::new(),
            time: joined,
            idempotency: None,
            term: 0,
        };
        let mut state = State::default();
        apply(&mut state, 1, 1, &proposal).0.into_result().unwrap();
        let gone = |now: Timestamp| -> Vec<_> {
            never_heard(&state, now).into_iter().map(|(node, _)| node).collect()
        };
        assert_eq!(gone(joined.after(KEEP_NEVER_HEARD / 2)), []);
        assert_eq!(gone(joined.after(KEEP_NEVER_HEARD * 2)), [NodeId::from_bits(1)]);
    }
}
