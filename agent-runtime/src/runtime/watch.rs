//! The thread that sees supervisors end.
//!
//! Owns an epoll set of process descriptors. Woken by the end of a supervisor, or by the runtime being dropped. For
//! each end it reads or makes the exit record, sets the status, and tells waiters and subscribers.

use super::{Shared, locked, supervisor};
use crate::error::{IoContext, RuntimeError};
use crate::id::ContainerId;
use crate::status::{Exit, Status};
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Token of the descriptor that ends the thread.
const STOP: u64 = 0;

/// Watched supervisors by epoll token.
type Watched = Mutex<HashMap<u64, (ContainerId, Arc<OwnedFd>)>>;

#[derive(Debug)]
pub(super) struct Watcher {
    set: Arc<OwnedFd>,
    stop: OwnedFd,
    watched: Arc<Watched>,
    next_token: AtomicU64,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    pub(super) fn start(shared: Arc<Shared>) -> Result<Self, RuntimeError> {
        let nowhere = Path::new("epoll");
        let set = Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC).doing("creating", nowhere)?);
        let stop = eventfd(0, EventfdFlags::CLOEXEC).doing("creating", nowhere)?;
        epoll::add(&*set, &stop, epoll::EventData::new_u64(STOP), epoll::EventFlags::IN)
            .doing("watching", nowhere)?;
        let watched = Arc::new(Watched::default());
        let (thread_set, thread_watched) = (Arc::clone(&set), Arc::clone(&watched));
        let thread = std::thread::Builder::new()
            .name("container-exits".into())
            .spawn(move || watch(&shared, &thread_set, &thread_watched))
            .doing("starting", Path::new("thread container-exits"))?;
        Ok(Self { set, stop, watched, next_token: AtomicU64::new(STOP + 1), thread: Some(thread) })
    }

    /// Watches a supervisor. If it has ended already, that is seen at once.
    pub(super) fn add(&self, id: &ContainerId, supervisor: Arc<OwnedFd>) -> Result<(), RuntimeError> {
        let token = self.next_token.fetch_add(1, Ordering::Relaxed);
        locked(&self.watched).insert(token, (id.clone(), Arc::clone(&supervisor)));
        let event = epoll::EventData::new_u64(token);
        let added = epoll::add(&*self.set, supervisor.as_fd(), event, epoll::EventFlags::IN);
        if added.is_err() {
            locked(&self.watched).remove(&token);
        }
        added.doing("watching", Path::new("supervisor"))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // Cannot fail: the counter is far from its limit.
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn watch(shared: &Shared, set: &OwnedFd, watched: &Watched) {
    let mut events = Vec::with_capacity(64);
    loop {
        events.clear();
        match epoll::wait(set, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => {
                tracing::error!(%error, "ends of containers can no longer be seen");
                return;
            }
        }
        for event in &events {
            let token = event.data.u64();
            if token == STOP {
                return;
            }
            let Some((id, supervisor)) = locked(watched).remove(&token) else { continue };
            let _ = epoll::delete(set, supervisor.as_fd());
            supervisor::reap(supervisor.as_fd());
            shared.ended(&id, &supervisor);
        }
    }
}

impl Shared {
    /// A supervisor ended, in good order or not. Whoever comes first settles it, the watcher or a deletion; others
    /// return at once.
    pub(super) fn ended(&self, id: &ContainerId, supervisor: &Arc<OwnedFd>) {
        let announce = {
            let mut containers = locked(&self.containers);
            // Only this very supervisor's container: it may have been deleted, and the name taken again.
            let current = containers.get_mut(id).filter(|entry| {
                entry.supervisor.as_ref().is_some_and(|current| Arc::ptr_eq(current, supervisor))
            });
            let Some(entry) = current else { return };
            entry.supervisor = None;
            // The caller never learned that a half-made container existed.
            entry.status != Status::Unknown
        };
        let exit = Exit::from(self.settle(id, "the supervisor was killed, and the container with it"));
        if let Some(entry) = locked(&self.containers).get_mut(id) {
            entry.status = Status::Exited(exit.clone());
        }
        self.changed.notify_all();
        if announce {
            for notify in locked(&self.subscribers).iter() {
                notify(id, &exit);
            }
        }
    }
}
