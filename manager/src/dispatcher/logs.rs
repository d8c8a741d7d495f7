//! Log lines that operators asked for: a subscription is passed to the agents that have the tasks, and what they publish
//! is passed to the operator. Nothing is kept here; a slow operator makes the agents wait.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use coracle_model::id::{NodeId, SessionId, TaskId};
use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1::{self, manager_message};
use tokio::sync::mpsc;
use tonic::Streaming;

use super::registry::Registry;
use crate::store::Store;

/// Chunks on their way to an operator.
const CHUNKS: usize = 32;
/// Subscriptions at a time.
const SUBSCRIPTIONS: usize = 256;

/// What reaches a subscriber.
#[derive(Debug)]
pub enum LogEvent {
    /// Lines of one node.
    Lines(NodeId, Vec<v1::LogLine>),
    /// The node has sent everything.
    Done(NodeId),
}

/// What to read.
#[derive(Debug, Clone, Copy)]
pub struct LogQuery {
    /// Goes on with new lines.
    pub follow: bool,
    /// Last lines of each task; negative is all.
    pub tail: i64,
    /// Nanoseconds since 1970.
    pub since: u64,
}

#[derive(Debug)]
struct Subscription {
    events: mpsc::Sender<LogEvent>,
    tasks: BTreeMap<NodeId, BTreeSet<TaskId>>,
}

/// All subscriptions of one term.
#[derive(Debug)]
pub struct LogBroker {
    store: Store,
    registry: Arc<Registry>,
    subscriptions: Mutex<BTreeMap<SessionId, Subscription>>,
}

/// An operator's end of a subscription; dropping it tells the agents to stop.
#[derive(Debug)]
pub struct Subscriber {
    broker: Arc<LogBroker>,
    id: SessionId,
    query: LogQuery,
    /// What the nodes send.
    pub events: mpsc::Receiver<LogEvent>,
}

impl LogBroker {
    /// A broker that reaches agents through the registry.
    #[must_use]
    pub fn new(store: Store, registry: Arc<Registry>) -> Self {
        Self { store, registry, subscriptions: Mutex::default() }
    }

    fn with<T>(&self, action: impl FnOnce(&mut BTreeMap<SessionId, Subscription>) -> T) -> T {
        action(&mut self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Begins a subscription without tasks.
    ///
    /// # Errors
    /// If there are too many.
    pub fn subscribe(self: &Arc<Self>, query: LogQuery) -> Result<Subscriber, ApiError> {
        let (sender, events) = mpsc::channel(CHUNKS);
        let id = SessionId::from_bits(rand::random());
        self.with(|all| {
            if all.len() >= SUBSCRIPTIONS {
                let message = format!("{SUBSCRIPTIONS} log subscriptions are open already; end some");
                return Err(ApiError::new(Reason::Exhausted, message));
            }
            all.insert(id, Subscription { events: sender, tasks: BTreeMap::new() });
            Ok(())
        })?;
        Ok(Subscriber { broker: Arc::clone(self), id, query, events })
    }

    /// Takes what an agent publishes, until it has sent everything or nobody listens.
    ///
    /// # Errors
    /// If the subscription is not one of this node.
    pub async fn publish(&self, node: NodeId, mut chunks: Streaming<v1::LogChunk>) -> Result<(), ApiError> {
        let mut open: Option<mpsc::Sender<LogEvent>> = None;
        while let Ok(Some(chunk)) = chunks.message().await {
            let id: SessionId = chunk.subscription.parse().map_err(|_| unknown())?;
            let (events, own) = self.with(|all| {
                let subscription = all.get(&id)?;
                Some((subscription.events.clone(), subscription.tasks.get(&node)?.clone()))
            }).ok_or_else(unknown)?;
            let ours = |line: &v1::LogLine| line.task.parse::<TaskId>().is_ok_and(|task| own.contains(&task));
            if !chunk.lines.iter().all(ours) {
                return Err(ApiError::new(Reason::Forbidden, "a line of a task that was not asked for".to_owned()));
            }
            if events.send(LogEvent::Lines(node, chunk.lines)).await.is_err() {
                return Ok(());
            }
            open = Some(events);
        }
        if let Some(events) = open {
            let _ = events.send(LogEvent::Done(node)).await;
        }
        Ok(())
    }
}

fn unknown() -> ApiError {
    ApiError::new(Reason::NotFound, "no such log subscription of this node".to_owned())
}

impl Subscriber {
    /// Asks a node for lines of tasks that it was not asked for before.
    ///
    /// # Errors
    /// Why its lines will be missing.
    pub async fn add(&self, node: NodeId, tasks: &BTreeSet<TaskId>) -> Result<bool, String> {
        let new: Vec<_> = self.broker.with(|all| {
            let Some(subscription) = all.get_mut(&self.id) else { return Vec::new() };
            let known = subscription.tasks.entry(node).or_default();
            tasks.iter().filter(|task| known.insert(**task)).copied().collect()
        });
        if new.is_empty() {
            return Ok(false);
        }
        let host = self.broker.store.view().node(node).map_or_else(|| node.to_string(), |n| n.description.hostname.clone());
        let connected = self.broker.registry.get(node).ok_or_else(|| format!("{host}: not connected"))?;
        let subscription = v1::LogSubscription {
            id: self.id.to_string(),
            tasks: new.iter().map(ToString::to_string).collect(),
            follow: self.query.follow,
            tail: self.query.tail,
            since: self.query.since,
        };
        let message = manager_message::Message::SubscribeLogs(subscription);
        connected.messages.send(message).await.map_err(|_| format!("{host}: the connection was lost"))?;
        Ok(true)
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let Some(subscription) = self.broker.with(|all| all.remove(&self.id)) else { return };
        for node in subscription.tasks.keys() {
            let Some(connected) = self.broker.registry.get(*node) else { continue };
            // An agent whose queue is full finds its publishing refused instead.
            let cancel = v1::LogCancel { id: self.id.to_string() };
            let _ = connected.messages.try_send(manager_message::Message::CancelLogs(cancel));
        }
    }
}
