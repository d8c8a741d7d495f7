//! One agent's stream.
//!
//! Owns: what the agent has been sent. Woken by: the agent's messages, changes of its node's tasks, log subscriptions. Ends when the
//! stream does, when a newer session of the node begins, or when leadership ends; the agent then looks for the leader again. What it says
//! is checked in [`said`].

mod said;
mod sent;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use coracle_manager_core::assign::{self, Assigned};
use coracle_manager_core::change::Change;
use coracle_manager_core::state::View;
use coracle_model::id::{FileId, NodeId, SessionId, TaskId};
use coracle_model::node::NodeDescription;
use coracle_model::role::Role;
use coracle_pki::UnixTime;
use coracle_pki::ticket::TicketKey;
use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1::{self, agent_message, manager_message};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use prost::bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tracing::{debug, info, warn};

pub use said::check_description;
use said::{first, held_images, protocol, reports};
use sent::{assigned_task, file_set};

use super::Term;
use super::registry::{Connected, Origin};
use crate::store::{Store, Write};

/// Messages that wait for a slow agent; a full queue makes the session wait, which the agent's heartbeats outlast.
pub const OUTBOX: usize = 64;

/// What goes to the agent.
pub type Outbox = mpsc::Sender<Result<v1::ManagerMessage, Status>>;

/// A session that was admitted.
#[derive(Debug)]
pub struct Session {
    store: Store,
    term: Term,
    node: NodeId,
    id: SessionId,
    /// The other end of the connection.
    peer: Option<IpAddr>,
    certified: Option<UnixTime>,
    outbox: Outbox,
    sent: BTreeMap<TaskId, Assigned>,
    /// Versions of secrets and configs that the agent has.
    sent_files: BTreeSet<(FileId, u64)>,
    sequence: u64,
    /// The agent has stopped what it should not run.
    synced: bool,
    told: Told,
}

/// What the agent was last told besides tasks, so that it is told again only when it changes.
#[derive(Debug, Default, PartialEq, Clone)]
struct Told {
    node: Option<v1::NodeUpdate>,
    managers: Vec<String>,
}

impl Session {
    /// A session in this term of `node` at `peer`, whose certificate was issued at `certified`.
    #[must_use]
    pub fn new(
        store: Store,
        term: Term,
        node: NodeId,
        peer: Option<IpAddr>,
        certified: Option<UnixTime>,
        outbox: Outbox,
    ) -> Self {
        let id = SessionId::from_bits(rand::random());
        Self {
            store,
            term,
            node,
            id,
            peer,
            certified,
            outbox,
            sent: BTreeMap::new(),
            sent_files: BTreeSet::new(),
            sequence: 0,
            synced: false,
            told: Told::default(),
        }
    }

    /// Serves the agent until either side ends it.
    pub async fn run(mut self, mut inbound: Streaming<v1::AgentMessage>) {
        let close = self.term.stop.child_token();
        let ended = tokio::select! {
            () = close.cancelled() => Ok(()),
            ended = self.serve(&mut inbound, close.clone()) => ended,
        };
        close.cancel();
        self.term.registry.leave(self.node, self.id);
        self.term.volumes.forget(self.node, self.id);
        self.term.liveness.closed(self.node, self.id);
        match ended {
            Ok(()) => debug!(node = %self.node, "session ended"),
            Err(error) => {
                info!(node = %self.node, %error, "session ended");
                // An agent that does not read what it was sent before does not learn why; nobody waits for it.
                let _ = self.outbox.try_send(Err(error.into()));
            }
        }
    }

    async fn serve(
        &mut self,
        inbound: &mut Streaming<v1::AgentMessage>,
        close: CancellationToken,
    ) -> Result<(), ApiError> {
        let hello = match first(inbound).await? {
            Some(hello) => hello,
            None => return Ok(()),
        };
        let (wake, messages) = (Arc::new(Notify::new()), mpsc::channel(OUTBOX));
        // All of it is looked at before it takes the place of a session that is well.
        let images = held_images(hello.images.unwrap_or_default())?;
        let description = self.described(hello.description, &hello.address)?;
        let reports = reports(hello.tasks)?;
        self.enter(Connected {
            session: self.id,
            origin: Origin { peer: self.peer, advertised: hello.address.clone() },
            certified: self.certified,
            wake: Arc::clone(&wake),
            messages: messages.0,
            close: close.clone(),
            images,
        })?;
        self.describe(description, hello.address).await?;
        let mut acknowledgements = FuturesUnordered::new();
        if !reports.is_empty() {
            // What the agent holds is written before its assignments are computed, so that ended tasks are not sent back.
            if self.term.statuses.report(self.node, reports).await.await.is_err() {
                return Ok(());
            }
        }
        self.welcome().await?;
        self.send_assignments().await?;
        self.converse(inbound, &close, &wake, messages.1, &mut acknowledgements).await
    }

    async fn converse(
        &mut self,
        inbound: &mut Streaming<v1::AgentMessage>,
        close: &CancellationToken,
        wake: &Notify,
        mut messages: mpsc::Receiver<manager_message::Message>,
        acknowledgements: &mut FuturesUnordered<BoxFuture<'static, Option<u64>>>,
    ) -> Result<(), ApiError> {
        loop {
            tokio::select! {
                () = close.cancelled() => return Ok(()),
                message = inbound.message() => match message {
                    Ok(Some(message)) => self.handle(message, acknowledgements).await?,
                    Ok(None) => return Ok(()),
                    Err(status) => {
                        debug!(node = %self.node, %status, "session lost");
                        return Ok(());
                    }
                },
                () = wake.notified() => self.catch_up().await?,
                Some(message) = messages.recv() => self.send(message).await?,
                Some(sequence) = acknowledgements.next(), if !acknowledgements.is_empty() => match sequence {
                    Some(sequence) => self.send(manager_message::Message::StatusAck(v1::StatusAck { sequence })).await?,
                    // Not written: the agent sends everything again on its next session.
                    None => return Ok(()),
                },
            }
        }
    }

    async fn handle(
        &mut self,
        message: v1::AgentMessage,
        acknowledgements: &mut FuturesUnordered<BoxFuture<'static, Option<u64>>>,
    ) -> Result<(), ApiError> {
        if !self.term.liveness.heard(self.node, self.id) {
            return Err(ApiError::new(
                Reason::Unavailable,
                "the session was silent for too long; begin a new one",
            ));
        }
        match message.message {
            Some(agent_message::Message::Heartbeat(_)) => {
                self.send(manager_message::Message::HeartbeatAck(v1::HeartbeatAck {})).await?;
            }
            Some(agent_message::Message::Statuses(report)) => {
                let sequence = report.sequence;
                let written = self.term.statuses.report(self.node, reports(report.tasks)?).await;
                acknowledgements.push(Box::pin(async move { written.await.ok().map(|()| sequence) }));
            }
            Some(agent_message::Message::Synced(synced)) => {
                // Once: every time all nodes are looked at.
                if synced.sequence <= self.sequence && !self.synced {
                    self.synced = true;
                    self.term.liveness.synced(self.node, self.id);
                }
            }
            Some(agent_message::Message::Images(images)) => {
                self.term.registry.set_images(self.node, self.id, held_images(images)?);
            }
            Some(agent_message::Message::Volumes(report)) => {
                self.term.volumes.report(self.node, self.id, report)?;
            }
            Some(agent_message::Message::VolumeAnswer(answer)) => {
                self.term.volumes.answered(self.node, answer);
            }
            Some(agent_message::Message::Hello(_)) => return Err(protocol("a second hello in one session")),
            None => debug!(node = %self.node, "a message of a newer agent is ignored"),
        }
        Ok(())
    }

    /// Becomes the node's session.
    fn enter(&self, connected: Connected) -> Result<(), ApiError> {
        if let Err(refused) = self.term.registry.enter(self.node, connected, Instant::now()) {
            if refused.first {
                warn!("{refused}");
            }
            return Err(ApiError::new(Reason::Unavailable, refused.to_string()));
        }
        self.term.liveness.opened(self.node, self.id);
        Ok(())
    }

    /// What the agent says of its node, checked.
    fn described(
        &self,
        said: Option<v1::NodeDescription>,
        address: &str,
    ) -> Result<NodeDescription, ApiError> {
        let description = NodeDescription::from(said.ok_or_else(|| protocol("hello without a description"))?);
        check_description(&description, address)?;
        self.store.view().node(self.node).ok_or_else(|| protocol("the node was removed"))?;
        Ok(description)
    }

    /// Writes what the agent says of its node, if that is news.
    async fn describe(&self, description: NodeDescription, address: String) -> Result<(), ApiError> {
        let view = self.store.view();
        let known = view.node(self.node).ok_or_else(|| protocol("the node was removed"))?;
        if known.description == description && known.status.address == address {
            return Ok(());
        }
        let change = Change::DescribeNode { node: self.node, description, address };
        self.store
            .propose(Write { term: self.term.number, ..Write::internal("node description", vec![change]) })
            .await?;
        Ok(())
    }

    async fn welcome(&mut self) -> Result<(), ApiError> {
        let view = self.store.view();
        let told = self.tell(&view)?;
        let welcome = v1::Welcome {
            session_id: self.id.to_string(),
            heartbeat_period: u64::try_from(self.term.liveness.period().as_nanos()).unwrap_or(u64::MAX),
            node: told.node,
            managers: Some(v1::ManagerList { addresses: told.managers.clone() }),
            ticket_public_key: ticket_public_key(&view)?,
            term: self.term.number,
        };
        self.told = told;
        self.send(manager_message::Message::Welcome(welcome)).await
    }

    fn tell(&self, view: &View) -> Result<Told, ApiError> {
        let node = view.node(self.node).ok_or_else(|| protocol("the node was removed"))?;
        // A manager that is to become a worker leaves Raft first.
        let role = if node.manager.is_some() { Role::Manager } else { node.spec.role };
        let update = v1::NodeUpdate {
            role: v1::NodeRole::from(role).into(),
            availability: v1::Availability::from(node.spec.availability).into(),
        };
        Ok(Told { node: Some(update), managers: manager_addresses(view) })
    }

    async fn catch_up(&mut self) -> Result<(), ApiError> {
        let told = self.tell(&self.store.view())?;
        if told != self.told {
            if told.node != self.told.node
                && let Some(update) = told.node
            {
                self.send(manager_message::Message::Node(update)).await?;
            }
            if told.managers != self.told.managers {
                let addresses = told.managers.clone();
                self.send(manager_message::Message::Managers(v1::ManagerList { addresses })).await?;
            }
            self.told = told;
        }
        self.send_assignments().await
    }

    /// Sends what changed since the last message: everything, if this is the first.
    async fn send_assignments(&mut self) -> Result<(), ApiError> {
        let view = self.store.view();
        let wanted = assign::assignments(&view, self.node);
        let difference = assign::difference(&self.sent, &wanted);
        let complete = self.sequence == 0;
        let files = assign::files(&view, &wanted);
        if !complete && difference.is_empty() && files == self.sent_files {
            return Ok(());
        }
        self.send_files(&view, &files).await?;
        self.sequence += 1;
        let message = v1::Assignments {
            complete,
            sequence: self.sequence,
            set: difference.set.iter().filter_map(|task| wanted.get(task)).map(assigned_task).collect(),
            removed: difference.removed.iter().map(ToString::to_string).collect(),
            checksum: assign::checksum(&wanted),
            files: (complete || files != self.sent_files).then(|| file_set(&files)),
        };
        (self.sent, self.sent_files) = (wanted, files);
        self.send(manager_message::Message::Assignments(message)).await
    }

    /// Sends what the agent does not have yet, in front of the tasks that need it.
    async fn send_files(&self, view: &View, files: &BTreeSet<(FileId, u64)>) -> Result<(), ApiError> {
        for (id, number) in files.difference(&self.sent_files) {
            let Some(file) = view.file(*id) else { continue };
            let Some(content) = file.contents.get(number) else { continue };
            let message = v1::AssignedFile {
                file: id.to_string(),
                content: *number,
                data: Bytes::copy_from_slice(content.data.reveal()),
                template: file.template,
            };
            self.send(manager_message::Message::File(message)).await?;
        }
        Ok(())
    }

    async fn send(&self, message: manager_message::Message) -> Result<(), ApiError> {
        let message = v1::ManagerMessage { message: Some(message) };
        self.outbox.send(Ok(message)).await.map_err(|_| protocol("the agent is gone"))
    }
}

/// `IP:PORT` of all managers.
#[must_use]
pub fn manager_addresses(view: &View) -> Vec<String> {
    view.nodes().filter_map(|node| node.manager.as_ref().map(|manager| manager.address.clone())).collect()
}

/// The key that signs image tickets.
///
/// # Errors
/// If there is no cluster yet or its key cannot be read.
pub fn ticket_key(view: &View) -> Result<TicketKey, ApiError> {
    let unusable = |what: String| {
        ApiError::new(Reason::Internal, format!("the key of image tickets cannot be used: {what}"))
    };
    let cluster = view.cluster().ok_or_else(|| unusable("no cluster".to_owned()))?;
    let seed =
        cluster.ticket_key.reveal().try_into().map_err(|_| unusable("its length is wrong".to_owned()))?;
    TicketKey::from_seed(seed).map_err(|error| unusable(error.to_string()))
}

fn ticket_public_key(view: &View) -> Result<Bytes, ApiError> {
    let public =
        ticket_key(view)?.public().map_err(|error| ApiError::new(Reason::Internal, error.to_string()))?;
    Ok(Bytes::copy_from_slice(&public.0))
}
