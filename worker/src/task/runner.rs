//! Does what the machine says for one task.
//!
//! One per task. Owns the machine; is woken by its wish (what the desk wants of it), by the answer to the one job
//! under way, by the end of the container and by its timer; publishes statuses to the desk. When the desk is gone the
//! daemon ends: the runner ends too, and the container goes on.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use coracle_daemon::{Backoff, BackoffPolicy, Clock, ErrorChain};
use coracle_image::ImageStore;
use coracle_model::health::{HealthCheck, HealthResult};
use coracle_model::id::TaskId;
use coracle_model::mount::{Mount, MountKind};
use coracle_model::service::TaskSpec;
use coracle_model::task::DesiredState;
use coracle_model::template::NodeFacts;
use coracle_model::time::Timestamp;
use futures::FutureExt as _;
use futures::future::{BoxFuture, join, try_join_all};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tracing::{Instrument as _, debug, info, warn};

use super::fsm::{Action, Input, Machine, Reality};
use crate::adapters::containers::{Containers, Executed};
use crate::assignments::Assignment;
use crate::desk::{Event, StatusEvent};
use crate::files::Shelf;
use crate::health::effective;
use crate::image_use::ImageUses;
use crate::launch::{Place, launch, values};
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
    pub(crate) creations: Arc<Semaphore>,
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

    fn fetch(&mut self) {
        let spec = match &self.assignment.spec {
            Ok(spec) => spec,
            Err(problem) => {
                let problem = problem.clone();
                self.job = Some(async move { Input::Fetched(Err(problem)) }.boxed());
                return;
            }
        };
        let fetch = self.workshop.fetcher.ensure(spec.container.image.digest);
        let mounted: Vec<_> = spec
            .container
            .images()
            .skip(1)
            .map(|image| self.workshop.fetcher.ensure(image.digest).done)
            .collect();
        let files = self.workshop.files.arrived(&spec.container.files);
        let here = self.workshop.files.has(&spec.container.files);
        let (told, waiting) = watch::channel(String::new());
        self.progress = Some(if here { fetch.progress } else { waiting });
        self.job = Some(
            async move {
                if !here {
                    told.send_replace("waiting for a manager to send its secrets and configs".to_owned());
                    files.await;
                }
                let fetched = join(fetch.done, try_join_all(mounted)).await;
                Input::Fetched(fetched.0.and(fetched.1.map(drop)))
            }
            .boxed(),
        );
    }

    fn create(&self, leftovers: bool) -> BoxFuture<'static, Input> {
        let (workshop, assignment) = (Arc::clone(&self.workshop), Arc::clone(&self.assignment));
        let references = assignment.spec.as_ref().map_or(&[][..], |spec| &spec.container.files);
        let (files, mut wish) = (workshop.files.arrived(references), self.wish.clone());
        async move {
            // A task that this node starts again may have to wait for a manager, after a restart of the daemon.
            tokio::select! {
                () = files => {}
                _ = wish.wait_for(|wish| wish.desired > DesiredState::Running) => {}
            }
            // The semaphore is never closed.
            let _permit = Arc::clone(&workshop.creations).acquire_owned().await;
            let made = blocking(move || make(&workshop, &assignment, leftovers)).await;
            Input::Created(made.unwrap_or_else(|| Err(PANICKED.to_owned())))
        }
        .boxed()
    }

    fn start(&self) -> BoxFuture<'static, Input> {
        let (workshop, task) = (Arc::clone(&self.workshop), self.assignment.id);
        async move {
            let _permit = Arc::clone(&workshop.creations).acquire_owned().await;
            let started = blocking(move || workshop.containers.start(task)).await;
            Input::Started(match started {
                Some(Ok(pid)) => Ok(pid),
                Some(Err(error)) => Err(error.to_string()),
                None => Err(PANICKED.to_owned()),
            })
        }
        .boxed()
    }

    fn check(&self, command: Vec<String>, timeout: Duration) -> BoxFuture<'static, Input> {
        let (workshop, task) = (Arc::clone(&self.workshop), self.assignment.id);
        async move {
            // The semaphore is never closed.
            let _permit = Arc::clone(&workshop.checks).acquire_owned().await;
            let (started_at, began) = (workshop.now(), Instant::now());
            let containers = Arc::clone(&workshop.containers);
            let ended = blocking(move || containers.execute(task, &command, timeout)).await;
            let Executed { code, output } = match ended {
                Some(Ok(executed)) => executed,
                Some(Err(error)) => Executed { code: None, output: error.to_string() },
                None => Executed { code: None, output: PANICKED.to_owned() },
            };
            Input::Checked(HealthResult { started_at, took: began.elapsed(), code, output })
        }
        .boxed()
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

/// What there is of the container, and how it is checked: that is not kept with it, but its image is here while it is.
fn look(workshop: &Workshop, assignment: &Assignment) -> (Reality, Option<HealthCheck>) {
    let reality = workshop.containers.inspect(assignment.id);
    let (Ok(spec), false) = (&assignment.spec, reality == Reality::Absent) else { return (reality, None) };
    match workshop.images.prepare(spec.container.image.digest) {
        Ok(image) => (reality, effective(&spec.container.health, image.config.health_check.as_ref())),
        Err(error) => {
            warn!(error = %ErrorChain(&error), "image of a container cannot be read: only what the service says is checked");
            (reality, effective(&spec.container.health, None))
        }
    }
}

/// Makes the container from the image, both of which are this node's by now. Returns how it is checked.
fn make(
    workshop: &Workshop,
    assignment: &Assignment,
    leftovers: bool,
) -> Result<Option<HealthCheck>, String> {
    let spec: &TaskSpec = assignment.spec.as_ref().map_err(Clone::clone)?;
    if leftovers {
        workshop.containers.delete(assignment.id).map_err(|error| error.to_string())?;
    }
    let prepared = workshop
        .images
        .prepare(spec.container.image.digest)
        .map_err(|error| ErrorChain(&error).to_string())?;
    let log = workshop.log_directory(assignment.id);
    let values = values(assignment, &workshop.node);
    let mut launch = launch(assignment, spec, &values, &prepared.config, prepared.lower_dirs, log)
        .map_err(|error| error.to_string())?;
    let given = workshop.files.given(&launch.container, &values)?;
    (launch.files, launch.variables) = (given.files, given.variables);
    launch.places = mounted_images(workshop, &launch.mounts)?;
    workshop.containers.create(&launch).map_err(|error| error.to_string())?;
    Ok(effective(&spec.container.health, prepared.config.health_check.as_ref()))
}

/// The layers of the images that a container mounts, which are this node's by now, too.
fn mounted_images(workshop: &Workshop, mounts: &[Mount]) -> Result<BTreeMap<String, Place>, String> {
    let mut places = BTreeMap::new();
    for mount in mounts {
        let MountKind::Image { image, .. } = &mount.kind else { continue };
        let prepared =
            workshop.images.prepare(image.digest).map_err(|error| ErrorChain(&error).to_string())?;
        places.insert(mount.target.clone(), Place::Layers(prepared.lower_dirs));
    }
    Ok(places)
}

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
