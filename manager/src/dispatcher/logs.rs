//! Log lines that operators asked for: a subscription is passed to the agents that have the tasks, and what they publish
//! is passed to the operator. Nothing is kept here; a slow operator makes the agents wait.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use coracle_model::id::{NodeId, SessionId, TaskId};
use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1::{self, manager_message};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
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

/// What one node was asked for at one time: each has an id of its own, so that tasks that come later are asked for as well.
#[derive(Debug, Clone)]
struct Stream {
    events: mpsc::Sender<LogEvent>,
    node: NodeId,
    tasks: BTreeSet<TaskId>,
}

/// All subscriptions of one term.
#[derive(Debug)]
pub struct LogBroker {
    store: Store,
    registry: Arc<Registry>,
    streams: Mutex<BTreeMap<SessionId, Stream>>,
    subscribers: Arc<Semaphore>,
}

/// An operator's end of a subscription; dropping it tells the agents to stop.
#[derive(Debug)]
pub struct Subscriber {
    broker: Arc<LogBroker>,
    query: LogQuery,
    /// Tasks that were there at the beginning: of later ones all lines are wanted.
    early: BTreeSet<TaskId>,
    /// Which node was asked for the lines of a task, in which session.
    asked: BTreeMap<TaskId, (NodeId, SessionId)>,
    /// The time of each task's last line that came.
    last: BTreeMap<TaskId, u64>,
    /// The same when its node was asked again: until then they come twice.
    resumed: BTreeMap<TaskId, u64>,
    streams: Vec<(SessionId, NodeId)>,
    sender: mpsc::Sender<LogEvent>,
    /// What the nodes send.
    pub events: mpsc::Receiver<LogEvent>,
    _place: OwnedSemaphorePermit,
}

impl LogBroker {
    /// A broker that reaches agents through the registry.
    #[must_use]
    pub fn new(store: Store, registry: Arc<Registry>) -> Self {
        Self {
            store,
            registry,
            streams: Mutex::default(),
            subscribers: Arc::new(Semaphore::new(SUBSCRIPTIONS)),
        }
    }

    fn with<T>(&self, action: impl FnOnce(&mut BTreeMap<SessionId, Stream>) -> T) -> T {
        action(&mut self.streams.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Begins a subscription without tasks.
    ///
    /// # Errors
    /// If there are too many.
    pub fn subscribe(self: &Arc<Self>, query: LogQuery) -> Result<Subscriber, ApiError> {
        let place = Arc::clone(&self.subscribers).try_acquire_owned().map_err(|_| {
            ApiError::new(
                Reason::Exhausted,
                format!("{SUBSCRIPTIONS} log subscriptions are open already; end some"),
            )
        })?;
        let (sender, events) = mpsc::channel(CHUNKS);
        Ok(Subscriber {
            broker: Arc::clone(self),
            query,
            early: BTreeSet::new(),
            asked: BTreeMap::new(),
            last: BTreeMap::new(),
            resumed: BTreeMap::new(),
            streams: Vec::new(),
            sender,
            events,
            _place: place,
        })
    }

    /// Takes what an agent publishes, until it has sent everything or nobody listens. The first message names the subscription.
    ///
    /// # Errors
    /// If the subscription is not one of this node.
    pub async fn publish(&self, node: NodeId, mut chunks: Streaming<v1::LogChunk>) -> Result<(), ApiError> {
        let Ok(Some(first)) = chunks.message().await else { return Ok(()) };
        let id: SessionId = first.subscription.parse().map_err(|_| unknown())?;
        let stream = self
            .with(|all| all.get(&id).cloned())
            .filter(|stream| stream.node == node)
            .ok_or_else(unknown)?;
        let mut next = Some(first);
        while let Some(chunk) = next {
            let ours = |line: &v1::LogLine| {
                line.task.parse::<TaskId>().is_ok_and(|task| stream.tasks.contains(&task))
            };
            if !chunk.lines.iter().all(ours) {
                return Err(ApiError::new(
                    Reason::Forbidden,
                    "a line of a task that was not asked for".to_owned(),
                ));
            }
            if !chunk.lines.is_empty()
                && stream.events.send(LogEvent::Lines(node, chunk.lines)).await.is_err()
            {
                return Ok(());
            }
            next = chunks.message().await.ok().flatten();
        }
        self.with(|all| all.remove(&id));
        // Nobody listening any more is no error.
        let _ = stream.events.send(LogEvent::Done(node)).await;
        Ok(())
    }
}

fn unknown() -> ApiError {
    ApiError::new(Reason::NotFound, "no such log subscription of this node".to_owned())
}

impl Subscriber {
    /// The tasks that there are already: the last lines are theirs only.
    pub fn begin_with(&mut self, tasks: impl IntoIterator<Item = TaskId>) {
        self.early.extend(tasks);
    }

    /// Asks a node for lines of tasks that it was not asked for before; says whether there were any.
    ///
    /// # Errors
    /// Why its lines will be missing.
    pub async fn add(&mut self, node: NodeId, tasks: &BTreeSet<TaskId>) -> Result<bool, String> {
        let new: BTreeSet<TaskId> =
            tasks.iter().filter(|task| !self.asked.contains_key(task)).copied().collect();
        if new.is_empty() {
            return Ok(false);
        }
        let host = self
            .broker
            .store
            .view()
            .node(node)
            .map_or_else(|| node.to_string(), |n| n.description.hostname.clone());
        let connected = self.broker.registry.get(node).ok_or_else(|| format!("{host}: not connected"))?;
        self.asked.extend(new.iter().map(|task| (*task, (node, connected.session))));
        let (again, first): (BTreeSet<_>, BTreeSet<_>) =
            new.into_iter().partition(|task| self.last.contains_key(task));
        let (early, late): (BTreeSet<_>, BTreeSet<_>) =
            first.into_iter().partition(|task| self.early.contains(task));
        let lasts = again.iter().filter_map(|task| Some((*task, *self.last.get(task)?)));
        self.resumed.extend(lasts);
        let since = again.iter().filter_map(|task| self.resumed.get(task)).min().copied().unwrap_or(0);
        let resumed = LogQuery { tail: -1, since: self.query.since.max(since), ..self.query };
        let whole = LogQuery { tail: -1, ..self.query };
        for (tasks, query) in [(early, self.query), (late, whole), (again, resumed)] {
            if !tasks.is_empty() {
                let message = manager_message::Message::SubscribeLogs(self.subscribe(node, tasks, query));
                let sent = connected.messages.send(message).await;
                sent.map_err(|_| format!("{host}: the connection was lost"))?;
            }
        }
        Ok(true)
    }

    fn subscribe(&mut self, node: NodeId, tasks: BTreeSet<TaskId>, query: LogQuery) -> v1::LogSubscription {
        let id = SessionId::from_bits(rand::random());
        let subscription = v1::LogSubscription {
            id: id.to_string(),
            tasks: tasks.iter().map(ToString::to_string).collect(),
            follow: query.follow,
            tail: query.tail,
            since: query.since,
        };
        let stream = Stream { events: self.sender.clone(), node, tasks };
        self.broker.with(|all| all.insert(id, stream));
        self.streams.push((id, node));
        subscription
    }

    /// Nodes that were asked and have begun another session since, which knows nothing of that, are to be asked again.
    pub fn forget_former_sessions(&mut self) {
        let registry = &self.broker.registry;
        self.asked
            .retain(|_, (node, session)| registry.session(*node).is_none_or(|present| present == *session));
    }

    /// The lines that did not come before: a node that is asked again may begin with some that did. Lines may have equal times.
    pub fn only_new(&mut self, mut lines: Vec<v1::LogLine>) -> Vec<v1::LogLine> {
        lines.retain(|line| {
            let Ok(task) = line.task.parse::<TaskId>() else { return false };
            let is_new = self.resumed.get(&task).is_none_or(|last| line.time > *last);
            if is_new {
                self.last.insert(task, line.time);
            }
            is_new
        });
        lines
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        for (id, node) in &self.streams {
            if self.broker.with(|all| all.remove(id)).is_none() {
                continue;
            }
            let Some(connected) = self.broker.registry.get(*node) else { continue };
            // An agent whose queue is full finds its publishing refused instead.
            let cancel = v1::LogCancel { id: id.to_string() };
            let _ = connected.messages.try_send(manager_message::Message::CancelLogs(cancel));
        }
    }
}
