//! Volumes of the connected nodes: what agents tell of them, and what operators want done with them.
//!
//! Nothing of it is replicated: a request is passed to the node's agent on its session, and the agent's answer back. What ends the
//! session of the agent or the leadership ends the request. [`transfer`] is for what is in volumes: archives that pass through
//! here and are never held.

mod told;
mod transfer;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coracle_model::id::{NodeId, SessionId};
use coracle_model::volume::Volume;
use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1::volume_answer::Result as Answer;
use coracle_proto::v1::volume_request::Operation;
use coracle_proto::v1::{self, manager_message};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::registry::Registry;
use told::Told;
use transfer::Piece;

pub use transfer::{OPERATOR_IDLE, Read, Reading, TransferError, Writing};

/// Requests that wait for nodes at a time.
const REQUESTS: usize = 1024;
/// Archives on their way at a time; each holds a few megabytes.
const TRANSFERS: usize = 16;
/// How long the queue of a session may stay full.
const HANDED_OVER: Duration = Duration::from_secs(5);

/// A node as operators know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its id.
    pub node: NodeId,
    /// Its host name.
    pub hostname: String,
}

/// What the requester of something waits for.
#[derive(Debug)]
enum Expected {
    Answer(oneshot::Sender<Answer>),
    Read(mpsc::Sender<Piece>),
    /// The archive, until the node fetches it.
    Write(Option<mpsc::Receiver<Piece>>, oneshot::Sender<Answer>),
}

#[derive(Debug)]
struct Request {
    node: NodeId,
    expected: Expected,
}

/// Everything about volumes that one term of leadership has.
#[derive(Debug)]
pub struct VolumeBroker {
    registry: Arc<Registry>,
    /// Ends with the leadership.
    stop: CancellationToken,
    told: Mutex<BTreeMap<NodeId, (SessionId, Told)>>,
    requests: Mutex<BTreeMap<SessionId, Request>>,
    transfers: Arc<Semaphore>,
}

/// A request that a node was sent; dropping it forgets the request.
#[derive(Debug)]
struct Open {
    broker: Arc<VolumeBroker>,
    id: SessionId,
    place: Place,
    /// Ends with the session of the node.
    close: CancellationToken,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.broker.with(|all| all.remove(&self.id));
    }
}

impl VolumeBroker {
    /// A broker that reaches agents through the registry until `stop`.
    #[must_use]
    pub fn new(registry: Arc<Registry>, stop: CancellationToken) -> Self {
        Self {
            registry,
            stop,
            told: Mutex::default(),
            requests: Mutex::default(),
            transfers: Arc::new(Semaphore::new(TRANSFERS)),
        }
    }

    fn with<T>(&self, action: impl FnOnce(&mut BTreeMap<SessionId, Request>) -> T) -> T {
        action(&mut self.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn with_told<T>(&self, action: impl FnOnce(&mut BTreeMap<NodeId, (SessionId, Told)>) -> T) -> T {
        action(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes what the agent of a session tells.
    ///
    /// # Errors
    /// If it cannot be so, or is more than an agent may tell.
    pub fn report(&self, node: NodeId, session: SessionId, report: v1::VolumeReport) -> Result<(), ApiError> {
        if !self.registry.is_session(node, session) {
            return Ok(());
        }
        self.with_told(|all| {
            let (of, told) = all.entry(node).or_insert_with(|| (session, Told::default()));
            if *of != session {
                (*of, *told) = (session, Told::default());
            }
            told.take(node, report)
        })
    }

    /// Forgets what a session told that has ended.
    pub fn forget(&self, node: NodeId, session: SessionId) {
        self.with_told(|all| {
            if all.get(&node).is_some_and(|(of, _)| *of == session) {
                all.remove(&node);
            }
        });
    }

    /// The volumes of a node and how many more it has; nothing as long as it has not told all of them.
    #[must_use]
    pub fn volumes(&self, node: NodeId) -> Option<(Vec<Volume>, u64)> {
        self.with_told(|all| {
            all.get(&node)?
                .1
                .complete()
                .map(|(volumes, omitted)| (volumes.values().cloned().collect(), omitted))
        })
    }

    /// One volume of a node, as it was told.
    #[must_use]
    pub fn volume(&self, node: NodeId, name: &str) -> Option<Volume> {
        self.with_told(|all| all.get(&node)?.1.complete()?.0.get(name).cloned())
    }

    /// Asks a node and waits for its answer, for so long.
    ///
    /// # Errors
    /// If the node cannot be asked or does not answer. What it refuses is an answer.
    pub async fn ask(
        self: &Arc<Self>,
        place: &Place,
        operation: Operation,
        limit: Duration,
    ) -> Result<Answer, ApiError> {
        let only_reads = matches!(operation, Operation::Inspect(_));
        let (sender, answer) = oneshot::channel();
        let open = self.begin(place, operation, Expected::Answer(sender)).await?;
        tokio::select! {
            // An answer that came is an answer, also when the session ended right after.
            biased;
            Ok(answer) = answer => Ok(answer),
            () = open.close.cancelled() => Err(open.lost(!only_reads)),
            () = tokio::time::sleep(limit) => Err(open.no_answer(limit, !only_reads)),
        }
    }

    /// Takes an answer of a node. One that nobody waits for any more is dropped.
    pub fn answered(&self, node: NodeId, answer: v1::VolumeAnswer) {
        let (Ok(id), Some(result)) = (answer.id.parse::<SessionId>(), answer.result) else { return };
        let request = self.with(|all| match all.get(&id) {
            Some(request) if request.node == node => all.remove(&id),
            _ => None,
        });
        match request.map(|request| request.expected) {
            // Nobody waiting any more is no error.
            Some(Expected::Answer(sender) | Expected::Write(_, sender)) => drop(sender.send(result)),
            Some(Expected::Read(pieces)) => {
                if let Answer::Problem(problem) = result {
                    // There is room: nothing was published yet.
                    let _ = pieces.try_send(Piece::Problem(problem));
                }
            }
            None => {}
        }
    }

    async fn begin(
        self: &Arc<Self>,
        place: &Place,
        operation: Operation,
        expected: Expected,
    ) -> Result<Open, ApiError> {
        let unavailable = |problem: &str| {
            ApiError::new(Reason::Unavailable, format!("node {} {problem}", place.hostname))
                .with_hint("see `coracle node ls`")
        };
        let connected =
            self.registry.get(place.node).ok_or_else(|| unavailable("is not connected to the leader"))?;
        if self.volumes(place.node).is_none() {
            return Err(unavailable("has not told its volumes yet"));
        }
        let id = SessionId::from_bits(rand::random());
        let request = Request { node: place.node, expected };
        let admitted = self.with(|all| {
            let room = all.len() < REQUESTS;
            if room {
                all.insert(id, request);
            }
            room
        });
        if !admitted {
            let message = format!("{REQUESTS} requests wait for nodes already");
            return Err(ApiError::new(Reason::Exhausted, message).with_hint("try again in a moment"));
        }
        let open =
            Open { broker: Arc::clone(self), id, place: place.clone(), close: connected.close.clone() };
        let message = v1::VolumeRequest { id: id.to_string(), operation: Some(operation) };
        let handed_over = connected.messages.send(manager_message::Message::Volume(message));
        match tokio::time::timeout(HANDED_OVER, handed_over).await {
            Ok(Ok(())) => Ok(open),
            Ok(Err(_)) => Err(unavailable("was lost")),
            Err(_) => Err(unavailable("does not take requests at the moment")),
        }
    }

    /// What a node may do with a request that waits for it; `take` says whether it is of the right kind.
    fn claim<T>(
        &self,
        node: NodeId,
        id: &str,
        take: impl FnOnce(&mut Expected) -> Option<T>,
    ) -> Result<T, ApiError> {
        let id: Option<SessionId> = id.parse().ok();
        let claimed = self.with(|all| {
            let request = all.get_mut(&id?).filter(|request| request.node == node)?;
            take(&mut request.expected)
        });
        claimed.ok_or_else(|| ApiError::new(Reason::NotFound, "no such request for this node (any more)"))
    }
}

impl Open {
    /// The node or the leadership was lost. `uncertain`: it may have been done.
    fn lost(&self, uncertain: bool) -> ApiError {
        let what = if self.broker.stop.is_cancelled() {
            "leadership changed".to_owned()
        } else {
            format!("the connection to node {} was lost", self.place.hostname)
        };
        outcome(what, uncertain)
    }

    fn no_answer(&self, limit: Duration, uncertain: bool) -> ApiError {
        let seconds = limit.as_secs();
        outcome(format!("no answer of node {} within {seconds} s", self.place.hostname), uncertain)
    }
}

fn outcome(what: String, uncertain: bool) -> ApiError {
    if uncertain {
        ApiError::new(Reason::OutcomeUnknown, format!("{what}: it may have been done or not"))
            .with_hint("look with `coracle volume ls` before you try again")
    } else {
        ApiError::new(Reason::Unavailable, what).with_hint("try again")
    }
}
