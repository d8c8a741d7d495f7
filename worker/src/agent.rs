//! The agent: puts the parts together and runs them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use coracle_agent_runtime::selinux_defaults;
use coracle_daemon::{Clock, ErrorChain};
use coracle_image::ImageStore;
use coracle_model::node::{Availability, NodeDescription};
use coracle_model::role::Role;
use coracle_model::template::NodeFacts;
use coracle_pki::{SwappableIdentity, TicketPublicKey};
use coracle_proto::convert::DecodeError;
use coracle_proto::v1;
use coracle_seal::KeyRing;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tracing::{info, warn};

use crate::adapters::containers::{ContainerError, Containers};
use crate::collect::{Collector, remove};
use crate::desk::{Desk, Event, Views};
use crate::files::Shelf;
use crate::files::mounted::WithFiles;
use crate::image_use::ImageUses;
use crate::journal::{Journal, JournalError};
use crate::outbox::Outgoing;
use crate::selinux::labelled::{self, WithLabels};
use crate::session::{Links, keep_session};
use crate::task::places::Places;
use crate::task::runner::Workshop;
use crate::transfer::fetch::Fetcher;
use crate::transfer::serve::ImageTransferService;
use crate::volume::mounted::WithVolumes;
use crate::volume::{VolumeError, VolumeStore};

/// Events between runners, session and desk.
const EVENTS: usize = 1024;

/// Containers whose volumes are filled at a time, or wait for that: each holds a thread.
const FILLS: usize = 16;

/// Health checks under way at a time: each holds a thread, of which the rest of the daemon needs some too.
const CHECKS: usize = 128;

/// How long after the kill containers may take to be deleted before `swarm leave` goes on without them.
const AFTER_KILL: Duration = Duration::from_secs(30);

/// What an agent is made of.
pub struct AgentConfig {
    /// The node's folder; the agent's own is `agent/` in it.
    pub data_dir: PathBuf,
    /// Folder of what does not survive a reboot; the agent's own is `files/` in it.
    pub run_dir: PathBuf,
    /// Who this node is, now and after renewals.
    pub identity: SwappableIdentity,
    /// Seals the journal.
    pub keyring: Arc<KeyRing>,
    /// The node's images, shared with whoever loads them.
    pub images: Arc<ImageStore>,
    /// Makes and runs containers.
    pub containers: Arc<dyn Containers>,
    /// `IP:PORT` at which other nodes reach this one, which may change.
    pub advertise_address: watch::Receiver<String>,
    /// Managers to begin with, `IP:PORT`; those that the journal knows are tried too.
    pub managers: Vec<String>,
    /// What this node says of itself.
    pub description: NodeDescription,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Containers get SELinux labels also where their services say nothing of it.
    pub selinux_enabled: bool,
    /// How long an image that nothing uses is kept; [`crate::IMAGE_GRACE`] unless an operator says otherwise.
    pub image_grace: Duration,
}

impl std::fmt::Debug for AgentConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("AgentConfig");
        shown.field("data_dir", &self.data_dir).field("advertise_address", &self.advertise_address);
        shown.field("managers", &self.managers).finish_non_exhaustive()
    }
}

/// Why an agent cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The journal can be neither opened nor begun anew.
    #[error("agent's journal cannot be used")]
    Journal(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The runtime cannot say which containers there are.
    #[error("containers cannot be listed")]
    Containers(#[source] ContainerError),
    /// The folder of volumes cannot be used.
    #[error("volumes cannot be used")]
    Volumes(#[source] VolumeError),
    /// Labels were asked for.
    #[error(
        "selinux-enabled: SELinux is not active on this node: boot it with a policy, or start the daemon without the flag"
    )]
    Selinux,
}

impl From<JournalError> for AgentError {
    fn from(error: JournalError) -> Self {
        Self::Journal(Box::new(error))
    }
}

/// What the managers want this node to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeUpdate {
    /// The role that its next certificate will have.
    pub role: Role,
    /// Whether it gets and keeps tasks.
    pub availability: Availability,
}

impl TryFrom<&v1::NodeUpdate> for NodeUpdate {
    type Error = DecodeError;

    fn try_from(update: &v1::NodeUpdate) -> Result<Self, DecodeError> {
        Ok(Self { role: update.role().try_into()?, availability: update.availability().into() })
    }
}

/// How the agent is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentStatus {
    /// The manager of the session, `IP:PORT`.
    pub session_with: Option<String>,
    /// Containers that run.
    pub containers_running: u32,
    /// Managers known, `IP:PORT`.
    pub managers: Vec<String>,
}

/// The agent, to be run once.
pub struct Agent {
    desk: Desk,
    events: mpsc::Receiver<Event>,
    links: Links,
    collector: Collector,
    journal: Arc<Journal>,
    log_directory: PathBuf,
    handle: AgentHandle,
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent").field("log_directory", &self.log_directory).finish_non_exhaustive()
    }
}

impl Agent {
    /// Opens the journal, looks at the containers there are, and makes everything ready. Blocks for both; must be
    /// called within a tokio runtime, on a thread that may block.
    ///
    /// # Errors
    /// If the journal cannot even be begun anew, the containers cannot be listed, or the node lacks SELinux.
    pub fn build(config: AgentConfig) -> Result<Self, AgentError> {
        if config.selinux_enabled && selinux_defaults().is_none() {
            return Err(AgentError::Selinux);
        }
        let folder = config.data_dir.join("agent");
        let (journal, contents) = Journal::open(&folder.join("journal"), config.keyring)?;
        let journal = Arc::new(journal);
        let volumes = VolumeStore::open(config.data_dir.join("volumes"), Arc::clone(&config.clock))
            .map_err(AgentError::Volumes)?;
        let containers: Arc<dyn Containers> =
            Arc::new(WithVolumes::new(config.containers, volumes.clone(), config.run_dir.join("views")));
        let containers: Arc<dyn Containers> =
            Arc::new(WithFiles::new(containers, config.run_dir.join("files")));
        let node = labelled::Node {
            defaults: Box::new(selinux_defaults),
            labels_all: config.selinux_enabled,
            hostname: config.description.hostname.clone(),
        };
        let containers: Arc<dyn Containers> = Arc::new(WithLabels::new(containers, node));
        let files = Shelf::default();
        let found = containers.recover().map_err(AgentError::Containers)?;
        info!(tasks = contents.tasks.len(), containers = found.len(), "agent begins");

        let (events_in, events) = mpsc::channel(EVENTS);
        let managers = merged(&config.managers, &contents.managers);
        let manager = Arc::new(watch::Sender::new(None::<Channel>));
        let held = watch::Sender::new(0);
        let views = Views {
            running: watch::Sender::new(0),
            managers: watch::Sender::new(managers),
            node: watch::Sender::new(None),
            ticket_key: watch::Sender::new(contents.ticket_key),
        };
        let session_with = Arc::new(watch::Sender::new(None));
        let uses = ImageUses::default();
        let handle = AgentHandle {
            running: views.running.subscribe(),
            managers: views.managers.subscribe(),
            node: views.node.subscribe(),
            ticket_key: views.ticket_key.subscribe(),
            session_with: session_with.subscribe(),
            held: held.clone(),
            desk: events_in.clone(),
            images: Arc::clone(&config.images),
            uses: uses.clone(),
            volumes: volumes.clone(),
            clock: Arc::clone(&config.clock),
        };
        let collector = Collector {
            images: Arc::clone(&config.images),
            uses: uses.clone(),
            grace: config.image_grace,
            manager: manager.subscribe(),
            held: held.clone(),
        };
        let fetcher = Fetcher::new(
            Arc::clone(&config.images),
            config.identity.clone(),
            manager.subscribe(),
            held.clone(),
        );
        let log_directory = folder.join("logs");
        let workshop = Arc::new(Workshop {
            containers: Arc::clone(&containers),
            images: Arc::clone(&config.images),
            uses,
            fetcher,
            files: files.clone(),
            node: facts(&config.identity, &config.description),
            clock: Arc::clone(&config.clock),
            creations: Places::new(creations()),
            fills: Arc::new(Semaphore::new(FILLS)),
            checks: Arc::new(Semaphore::new(CHECKS)),
            log_directory: log_directory.clone(),
            events: events_in.clone(),
        });
        let outgoing = Arc::new(Outgoing::default());
        let links = Links {
            identity: config.identity,
            description: (&config.description).into(),
            clock: config.clock,
            advertise_address: config.advertise_address,
            desk: events_in,
            outgoing: Arc::clone(&outgoing),
            images: config.images,
            containers,
            files,
            volumes,
            held: held.subscribe(),
            managers: views.managers.subscribe(),
            journal: Arc::clone(&journal),
            term: contents.term,
            manager,
            session_with,
        };
        let desk = Desk::new(workshop, Arc::clone(&journal), outgoing, views, contents, found);
        delete_unknown_logs(&log_directory, &desk.known_logs());
        Ok(Self { desk, events, links, collector, journal, log_directory, handle })
    }

    /// Runs until `stop`. Containers go on when it ends, for whatever reason.
    pub async fn run(self, stop: CancellationToken) {
        let flush = CancellationToken::new();
        let flusher = tokio::spawn(Arc::clone(&self.journal).keep_flushed(flush.clone()));
        let session = tokio::spawn(keep_session(self.links, stop.clone()));
        let collector = tokio::spawn(self.collector.run(stop.clone()));
        self.desk.run(self.events, stop.clone()).await;
        // The desk also ends when nobody can speak to it any more.
        stop.cancel();
        if session.await.is_err() {
            warn!("the session's task ended by a panic");
        }
        if collector.await.is_err() {
            warn!("the task that removes images ended by a panic");
        }
        flush.cancel();
        if flusher.await.is_err() {
            warn!("the journal's task ended by a panic");
        }
    }

    /// A handle; clones are cheap.
    #[must_use]
    pub fn handle(&self) -> AgentHandle {
        self.handle.clone()
    }
}

/// What placeholders tell of this node. Its certificate is renewed, but never for another node.
fn facts(identity: &SwappableIdentity, description: &NodeDescription) -> NodeFacts {
    let id = identity.current().identity().node();
    NodeFacts {
        id: id.map(|id| id.to_string()).unwrap_or_default(),
        hostname: description.hostname.clone(),
        architecture: description.platform.architecture.clone(),
        os: description.platform.os.clone(),
    }
}

/// Containers made or started at a time. About half of making one is waiting, for the kernel's grace periods and for
/// processes to begin; but more than a few only queue for the kernel's lock of all cgroups, which costs processor time.
pub(crate) fn creations() -> usize {
    std::thread::available_parallelism().map_or(4, |count| count.get().saturating_mul(2).clamp(4, 8))
}

fn merged(first: &[String], second: &[String]) -> Vec<String> {
    let all: BTreeSet<&String> = first.iter().chain(second).collect();
    all.into_iter().cloned().collect()
}

/// What a journal that was lost knew of: nothing asks for those logs any more.
fn delete_unknown_logs(directory: &Path, known: &BTreeSet<String>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().to_str().is_some_and(|name| known.contains(name))
            && let Err(error) = std::fs::remove_dir_all(entry.path())
        {
            warn!(%error, path = %entry.path().display(), "log was not deleted");
        }
    }
}

/// What the rest of the daemon asks the agent; works also before it runs.
#[derive(Debug, Clone)]
pub struct AgentHandle {
    running: watch::Receiver<u32>,
    managers: watch::Receiver<Vec<String>>,
    node: watch::Receiver<Option<NodeUpdate>>,
    ticket_key: watch::Receiver<Option<TicketPublicKey>>,
    session_with: watch::Receiver<Option<String>>,
    held: watch::Sender<u64>,
    desk: mpsc::Sender<Event>,
    images: Arc<ImageStore>,
    uses: ImageUses,
    volumes: VolumeStore,
    clock: Arc<dyn Clock>,
}

impl AgentHandle {
    /// How the agent is now.
    #[must_use]
    pub fn status(&self) -> AgentStatus {
        AgentStatus {
            session_with: self.session_with.borrow().clone(),
            containers_running: *self.running.borrow(),
            managers: self.managers.borrow().clone(),
        }
    }

    /// The manager of the session, `IP:PORT`.
    #[must_use]
    pub fn session_with(&self) -> watch::Receiver<Option<String>> {
        self.session_with.clone()
    }

    /// What the managers want this node to be; nothing before the first session.
    #[must_use]
    pub fn node_updates(&self) -> watch::Receiver<Option<NodeUpdate>> {
        self.node.clone()
    }

    /// Where managers are, `IP:PORT`; the agent remembers them over restarts.
    #[must_use]
    pub fn managers(&self) -> watch::Receiver<Vec<String>> {
        self.managers.clone()
    }

    /// What verifies image tickets; nothing before the first session ever.
    #[must_use]
    pub fn ticket_public_key(&self) -> watch::Receiver<Option<TicketPublicKey>> {
        self.ticket_key.clone()
    }

    /// The service that gives this node's images to others, for the node's listener.
    #[must_use]
    pub fn image_transfer(&self) -> ImageTransferService {
        ImageTransferService::new(
            Arc::clone(&self.images),
            self.uses.clone(),
            self.ticket_key.clone(),
            Arc::clone(&self.clock),
        )
    }

    /// The volumes of this node.
    #[must_use]
    pub fn volumes(&self) -> &VolumeStore {
        &self.volumes
    }

    /// To be called when the cluster said, otherwise than in a session, that this node was removed: what runs here is stopped.
    pub async fn removed(&self) {
        // One that ends needs to know nothing.
        let _ = self.desk.send(Event::Removed).await;
    }

    /// To be called when images were loaded or removed, so that managers hear of it.
    pub fn images_changed(&self) {
        self.held.send_modify(|count| *count += 1);
    }

    /// Stops and deletes all containers, for `swarm leave`; what has not ended after `deadline` is killed. Returns
    /// when nothing is left, when the agent does not run, or some time after the deadline: what cannot be deleted
    /// is left to the next start.
    pub async fn stop_all_tasks(&self, deadline: Duration) {
        let (done, waiting) = oneshot::channel();
        if self.desk.send(Event::StopAll(deadline, done)).await.is_ok() {
            // An agent that ends meanwhile leaves the containers.
            if tokio::time::timeout(deadline.saturating_add(AFTER_KILL), waiting).await.is_err() {
                warn!("containers are left behind: they could not be deleted in time");
            }
        }
    }

    /// Removes all images that no container uses, for `swarm leave` when all tasks have stopped; none while containers
    /// are left whose image is not known. Those of containers that could not be deleted stay.
    pub async fn remove_images(&self) {
        let (images, uses) = (Arc::clone(&self.images), self.uses.clone());
        let removed = tokio::task::spawn_blocking(move || {
            let all = images.known()?;
            remove(&images, &uses, &all, Duration::ZERO)
        });
        match removed.await {
            Ok(Ok(Some(removed))) => {
                info!(images = removed.images, bytes = removed.bytes, "removed the images of this node");
            }
            Ok(Ok(None)) => warn!("images are left behind: containers are there that may use them"),
            Ok(Err(error)) => warn!(error = %ErrorChain(&error), "images are left behind"),
            // A panic in there was logged.
            Err(_) => {}
        }
    }
}
