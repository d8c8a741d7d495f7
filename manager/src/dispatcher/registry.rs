//! Who is connected.

mod rivals;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use coracle_model::digest::Digest;
use coracle_model::id::{NodeId, SessionId};
use coracle_pki::UnixTime;
use coracle_proto::v1;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::store::{Store, Wake};

use rivals::Rivals;
pub use rivals::{Origin, Refused};

/// One connected agent.
#[derive(Debug, Clone)]
pub struct Connected {
    /// Its session.
    pub session: SessionId,
    /// From where.
    pub origin: Origin,
    /// When the certificate was issued with which it opened the session.
    pub certified: Option<UnixTime>,
    /// Wakes the session to look at the view again.
    pub wake: Arc<Notify>,
    /// Messages for the agent besides assignments (log subscriptions).
    pub messages: mpsc::Sender<v1::manager_message::Message>,
    /// Ends the session: a newer one of the same node took its place, or the node was removed.
    pub close: CancellationToken,
    /// Manifests that the node holds.
    pub images: BTreeSet<Digest>,
}

/// Who is connected.
#[derive(Debug, Default)]
pub struct Registry {
    all: Mutex<BTreeMap<NodeId, Connected>>,
    rivals: Mutex<Rivals>,
}

impl Registry {
    fn with<T>(&self, action: impl FnOnce(&mut BTreeMap<NodeId, Connected>) -> T) -> T {
        action(&mut self.all.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds an agent; an older session of the same node is closed.
    ///
    /// # Errors
    /// If two places have taken the node from each other too often lately, and one of them holds a session.
    pub fn enter(&self, node: NodeId, connected: Connected, now: Instant) -> Result<(), Refused> {
        let old = self.with(|all| {
            if let Some(present) = all.get(&node) {
                let mut rivals = self.rivals.lock().unwrap_or_else(PoisonError::into_inner);
                rivals.take_over(node, &present.origin, &connected.origin, now)?;
            }
            Ok(all.insert(node, connected))
        })?;
        if let Some(old) = old {
            old.close.cancel();
        }
        Ok(())
    }

    /// Takes an agent out, unless a newer session has taken its place.
    pub fn leave(&self, node: NodeId, session: SessionId) {
        self.with(|all| {
            if all.get(&node).is_some_and(|connected| connected.session == session) {
                all.remove(&node);
            }
        });
    }

    /// The connected agent of a node.
    #[must_use]
    pub fn get(&self, node: NodeId) -> Option<Connected> {
        self.with(|all| all.get(&node).cloned())
    }

    /// The session of a node that is connected.
    #[must_use]
    pub fn session(&self, node: NodeId) -> Option<SessionId> {
        self.with(|all| all.get(&node).map(|connected| connected.session))
    }

    /// Whether this is the session of the node.
    #[must_use]
    pub fn is_session(&self, node: NodeId, session: SessionId) -> bool {
        self.session(node) == Some(session)
    }

    /// Notes what a node holds.
    pub fn set_images(&self, node: NodeId, session: SessionId, images: BTreeSet<Digest>) {
        self.with(|all| {
            if let Some(connected) = all.get_mut(&node).filter(|connected| connected.session == session) {
                connected.images = images;
            }
        });
    }

    /// Connected nodes that hold an image.
    #[must_use]
    pub fn holders(&self, digest: Digest) -> Vec<NodeId> {
        self.with(|all| {
            all.iter().filter(|(_, c)| c.images.contains(&digest)).map(|(node, _)| *node).collect()
        })
    }

    fn wake(&self, nodes: &BTreeSet<NodeId>) {
        self.with(|all| {
            nodes.iter().filter_map(|node| all.get(node)).for_each(|connected| connected.wake.notify_one())
        });
    }

    fn wake_all(&self) {
        self.with(|all| all.values().for_each(|connected| connected.wake.notify_one()));
    }
}

/// Wakes the sessions that a change concerns, until `stop`.
pub async fn run_fan_out(store: Store, registry: Arc<Registry>, stop: CancellationToken) {
    let mut feed = store.watch();
    loop {
        let wake = tokio::select! {
            () = stop.cancelled() => return,
            wake = feed.next() => wake,
        };
        match wake {
            // The list of managers and the keys are in every session.
            Wake::Touched(touched) if touched.cluster => registry.wake_all(),
            Wake::Touched(touched) => registry.wake(&touched.nodes),
            Wake::Resync => registry.wake_all(),
            Wake::Closed => return,
        }
    }
}
