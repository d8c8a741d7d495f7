//! The session with the leader: [`connect`] finds it, [`stream`] holds it.
//!
//! One task, which is never waited for by anything that works on containers. It is woken by the manager's messages,
//! by statuses, by changes of the images held and by its heartbeat; it tells the desk what the manager says. When the
//! manager is gone it looks for another one, at once and then with growing waits.

mod connect;
mod fence;
mod removal;
mod stream;
mod volumes;

use std::sync::Arc;

use coracle_daemon::Clock;
use coracle_image::ImageStore;
use coracle_pki::SwappableIdentity;
use coracle_proto::v1;
use tokio::sync::{mpsc, oneshot, watch};
use tonic::transport::Channel;

use crate::adapters::containers::Containers;
use crate::desk::Event;
use crate::files::Shelf;
use crate::journal::Journal;
use crate::outbox::Outgoing;
use crate::volume::VolumeStore;

pub(crate) use connect::keep_session;

/// What a session needs of the agent.
#[derive(Clone)]
pub(crate) struct Links {
    pub(crate) identity: SwappableIdentity,
    pub(crate) description: v1::NodeDescription,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) advertise_address: watch::Receiver<String>,
    pub(crate) desk: mpsc::Sender<Event>,
    pub(crate) outgoing: Arc<Outgoing>,
    pub(crate) images: Arc<ImageStore>,
    pub(crate) containers: Arc<dyn Containers>,
    /// Secrets and configs.
    pub(crate) files: Shelf,
    pub(crate) volumes: VolumeStore,
    /// Counts changes of the images held.
    pub(crate) held: watch::Receiver<u64>,
    pub(crate) managers: watch::Receiver<Vec<String>>,
    pub(crate) journal: Arc<Journal>,
    /// The highest term of a leader that an earlier daemon of this node has been with.
    pub(crate) term: u64,
    /// The manager of the open session, for other calls.
    pub(crate) manager: Arc<watch::Sender<Option<Channel>>>,
    /// Its address.
    pub(crate) session_with: Arc<watch::Sender<Option<String>>>,
}

impl Links {
    /// Asks the desk; nothing when it is gone, which means that the daemon ends.
    async fn ask<T>(&self, event: impl FnOnce(oneshot::Sender<T>) -> Event) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.desk.send(event(reply)).await.ok()?;
        answer.await.ok()
    }

    /// Tells the desk; one that is gone needs to know nothing.
    async fn tell(&self, event: Event) {
        let _ = self.desk.send(event).await;
    }
}
