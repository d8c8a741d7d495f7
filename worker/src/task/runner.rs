//! Does what the machine says for one task.
//!
//! One per task. Owns the machine; is woken by its wish (what the desk wants of it), by the answer to the one job
//! under way, by the end of the container and by its timer; publishes statuses to the desk. When the desk is gone the
//! daemon ends: the runner ends too, and the container goes on.

mod container;
mod jobs;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use coracle_daemon::{Backoff, BackoffPolicy, Clock, ErrorChain};
use coracle_image::ImageStore;
use coracle_model::id::TaskId;
use coracle_model::task::DesiredState;
use coracle_model::template::NodeFacts;
use coracle_model::time::Timestamp;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tracing::{Instrument as _, debug, info, warn};

use self::container::look;
use super::fsm::{Action, Input, Machine};
use super::places::Places;
use crate::adapters::containers::Containers;
use crate::assignments::Assignment;
use crate::desk::{Event, StatusEvent};
use crate::files::Shelf;
use crate::image_use::ImageUses;
use crate::transfer::fetch::Fetcher;

/// Waits before a container that could not be deleted is tried again.
const DELETE_AGAIN: BackoffPolicy =
    BackoffPolicy { first: Duration::from_secs(5), max: Duration::from_secs(60) };
/// Wait before a task that could not even be looked at is begun again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What all runners share.
pub(crate) struct Workshop {
    pub(crate) containers: Arc<dyn Containers>,
    pub(crate) images: Arc<ImageStore>,
    /// Which images are in use.
    pub(crate) uses: ImageUses,
    pub(crate) fetcher: Fetcher,
    /// Secrets and configs.
    pub(crate) files: Shelf,
    /// What placeholders tell of this node.
    pub(crate) node: NodeFacts,
    pub(crate) clock: Arc<dyn Clock>,
    /// Containers made or started at a time.
    pub(crate) creations: Places,
    /// Containers prepared at a time that have volumes.
    pub(crate) fills: Arc<Semaphore>,
    /// Health checks under way at a time.
    pub(crate) checks: Arc<Semaphore>,
    pub(crate) log_directory: PathBuf,
    pub(crate) events: mpsc::Sender<Event>,
}

impl std::fmt::Debug for Workshop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workshop").field("log_directory", &self.log_directory).finish_non_exhaustive()
    }
}

impl Workshop {
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.clock.now())
    }

    pub(crate) fn log_directory(&self, task: TaskId) -> PathBuf {
        self.log_directory.join(task.to_string())
    }
}

/// What the desk wants of a task: always the latest, never a queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) desired: DesiredState,
    pub(crate) offline: bool,
    /// The managers have the terminal status that began at this time.
    pub(crate) acknowledged: Option<Timestamp>,
    pub(crate) dropped: bool,
}

/// Runs one task until it is gone.
pub(crate) struct Runner {
    workshop: Arc<Workshop>,
    assignment: Arc<Assignment>,
    machine: Machine,
    wish: watch::Receiver<Wish>,
    seen: Wish,
    job: Option<BoxFuture<'static, Input>>,
    progress: Option<watch::Receiver<String>>,
    exit: Option<BoxFuture<'static, Input>>,
    check: Option<BoxFuture<'static, Input>>,
    timer: Option<BoxFuture<'static, Input>>,
    /// Under way, whether or not they come to an end: nothing waits for them.
    signalling: Option<JoinHandle<()>>,
    killing: Option<JoinHandle<()>>,
    /// When to try again to delete what could not be.
    delete_at: Option<Instant>,
    delete_again: Backoff,
    /// Gone as soon as the container is.
    leaving: bool,
    gone: bool,
}

impl Runner {
    pub(crate) fn new(
        workshop: Arc<Workshop>,
        assignment: Arc<Assignment>,
        machine: Machine,
        wish: watch::Receiver<Wish>,
    ) -> Self {
        let seen = Wish { desired: DesiredState::Ready, ..Wish::default() };
        Self {
            workshop,
            assignment,
            machine,
            wish,
            seen,
            job: None,
            progress: None,
            exit: None,
            check: None,
            timer: None,
            signalling: None,
            killing: None,
            delete_at: None,
            delete_again: Backoff::new(DELETE_AGAIN),
            leaving: false,
            gone: false,
        }
    }

    pub(crate) async fn run(self) {
        let span =
            tracing::info_span!("task", task = %self.assignment.id, service = %self.assignment.service_name);
        self.go_on().instrument(span).await;
    }

    async fn go_on(mut self) {
        let (workshop, assignment) = (Arc::clone(&self.workshop), Arc::clone(&self.assignment));
        let Some((reality, check)) = blocking(move || look(&workshop, &assignment)).await else {
            tokio::time::sleep(LOOK_AGAIN).await;
            self.send(Event::Panicked(self.assignment.id)).await;
            return;
        };
        self.machine.is_checked_by(check);
        self.take(Input::Begin(reality)).await;
        self.wish.mark_changed();
        while !self.gone {
            let Some(inputs) = self.next().await else { return };
            for input in inputs {
                self.take(input).await;
            }
        }
    }

    /// Waits for whatever happens next; nothing when the desk is gone.
    async fn next(&mut self) -> Option<Vec<Input>> {
        // Each arm is cancel-safe: the futures stay where they are until they are done.
        tokio::select! {
            biased;
            changed = self.wish.changed() => {
                changed.ok()?;
                Some(self.wishes())
            }
            input = pending_or(&mut self.exit) => Some(vec![input]),
            input = pending_or(&mut self.job) => {
                self.progress = None;
                Some(vec![input])
            }
            message = progress(&mut self.progress) => Some(message.map(Input::Progress).into_iter().collect()),
            input = pending_or(&mut self.check) => Some(vec![input]),
            input = pending_or(&mut self.timer) => Some(vec![input]),
            () = at(self.delete_at) => {
                self.delete().await;
                if self.leaving && self.delete_at.is_none() {
                    self.leave().await;
                }
                Some(Vec::new())
            }
        }
    }

    fn wishes(&mut self) -> Vec<Input> {
        let wish = self.wish.borrow_and_update().clone();
        let mut inputs = Vec::new();
        if wish.acknowledged != self.seen.acknowledged
            && wish.acknowledged == Some(self.machine.status().since)
        {
            inputs.push(Input::Acknowledged);
        }
        if wish.offline != self.seen.offline {
            inputs.push(Input::Offline(wish.offline));
        }
        if wish.desired != self.seen.desired {
            inputs.push(Input::Desired(wish.desired));
        }
        if wish.dropped && !self.seen.dropped {
            inputs.push(Input::Dropped);
        }
        self.seen = wish;
        inputs
    }

    async fn take(&mut self, input: Input) {
        debug!(?input, "task");
        for action in self.machine.step(self.workshop.now(), input) {
            self.perform(action).await;
        }
    }

    async fn perform(&mut self, action: Action) {
        match action {
            Action::Report => self.report().await,
            Action::Fetch => self.fetch(),
            Action::CancelFetch => {
                self.job = None;
                self.progress = None;
            }
            Action::Create { leftovers } => {
                let leftovers = leftovers || self.delete_at.take().is_some();
                self.job = Some(self.create(leftovers));
            }
            Action::Start => self.job = Some(self.start()),
            Action::Watch => {
                self.exit = Some(self.workshop.containers.wait(self.assignment.id).map(Input::Exited).boxed())
            }
            Action::Check { command, timeout } => self.check = Some(self.check(command, timeout)),
            Action::CancelCheck => self.check = None,
            Action::Signal => self.signal(),
            Action::Kill => self.kill(),
            Action::Timer(after) => {
                let timer = tokio::time::sleep(after);
                self.timer = Some(timer.map(|()| Input::Timer).boxed());
            }
            Action::CancelTimer => self.timer = None,
            Action::Delete => self.delete().await,
            Action::Gone if self.delete_at.is_some() => self.leaving = true,
            Action::Gone => self.leave().await,
        }
    }

    async fn leave(&mut self) {
        self.gone = true;
        self.send(Event::Gone(self.assignment.id)).await;
    }

    async fn report(&mut self) {
        let status = self.machine.status().clone();
        if status.state.is_terminal() || status.state == coracle_model::task::TaskState::Running {
            info!(state = %status.state, error = %status.error, pid = status.pid, "task is {}", status.message);
        }
        let history = self.machine.history().clone();
        self.send(Event::Status(StatusEvent { task: self.assignment.id, status, history })).await;
    }

    /// A desk that is gone needs to know nothing.
    async fn send(&mut self, event: Event) {
        let _ = self.workshop.events.send(event).await;
    }

    fn signal(&mut self) {
        if under_way(self.signalling.as_ref()) {
            return;
        }
        let (containers, task) = (Arc::clone(&self.workshop.containers), self.assignment.id);
        let signalling = async move {
            if let Some(Err(error)) = blocking(move || containers.ask_to_stop(task)).await {
                warn!(error = %ErrorChain(&error), "container was not asked to stop");
            }
        };
        self.signalling = Some(tokio::spawn(signalling.in_current_span()));
    }

    fn kill(&mut self) {
        if under_way(self.killing.as_ref()) {
            return;
        }
        let (containers, task) = (Arc::clone(&self.workshop.containers), self.assignment.id);
        let killing = async move {
            if let Some(Err(error)) = blocking(move || containers.kill(task)).await {
                warn!(error = %ErrorChain(&error), "container was not killed");
            }
        };
        self.killing = Some(tokio::spawn(killing.in_current_span()));
    }

    /// Tries; what is left is tried again later, for as long as it takes.
    async fn delete(&mut self) {
        let (containers, task) = (Arc::clone(&self.workshop.containers), self.assignment.id);
        let failure = match blocking(move || containers.delete(task)).await {
            Some(Ok(())) => {
                self.delete_at = None;
                self.delete_again.reset();
                return;
            }
            Some(Err(error)) => ErrorChain(&error).to_string(),
            None => PANICKED.to_owned(),
        };
        let delay = self.delete_again.next_delay(rand::random());
        warn!(error = %failure, again_in = ?delay, "container was not deleted whole");
        self.delete_at = Some(Instant::now() + delay);
    }
}

fn under_way(work: Option<&JoinHandle<()>>) -> bool {
    work.is_some_and(|work| !work.is_finished())
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

const PANICKED: &str = "agent panicked over this, which is a bug: its log says where";

/// Runs what may block on a thread for that; nothing if it panicked.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

async fn pending_or(slot: &mut Option<BoxFuture<'static, Input>>) -> Input {
    match slot {
        Some(future) => {
            let input = future.await;
            *slot = None;
            input
        }
        None => std::future::pending().await,
    }
}

/// The next message; none when there will be no more, which is told once.
async fn progress(slot: &mut Option<watch::Receiver<String>>) -> Option<String> {
    let Some(receiver) = slot else { return std::future::pending().await };
    if receiver.changed().await.is_ok() {
        return Some(receiver.borrow_and_update().clone());
    }
    *slot = None;
    None
}
