//! Tasks with a name, a meaning of failure and a meaning of cancellation.
//!
//! Nothing runs unobserved: a task that fails or panics is logged, started again or ends the process, as
//! was declared when it was spawned. A [`Tasks`] is a group; [`Tasks::group`] makes one inside another,
//! such as the loops that run while a manager leads, which can be ended and awaited alone.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::backoff::{Backoff, BackoffPolicy};
use crate::error_chain::ErrorChain;
use crate::shutdown::Shutdown;

/// Any error that a task may end with.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// What a task's failure means. For starting it again, see [`Tasks::spawn_restarting`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// It is logged as a warning; the process goes on without the task.
    Log,
    /// The process cannot go on: it is logged as an error and everything is asked to end.
    StopProcess,
}

/// What cancellation means to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnCancel {
    /// The task watches its token and finishes by itself, however long that takes.
    Finish,
    /// The task is dropped where it waits.
    Abort,
}

/// How a task ended badly.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// It returned an error.
    #[error("failed")]
    Failed(#[source] BoxError),
    /// It panicked. The message is left out, because it might hold anything.
    #[error("panicked, this is a bug: the log says where")]
    Panicked,
}

/// The failure that ended the process.
#[derive(Debug, thiserror::Error)]
#[error("task {task}")]
pub struct TaskFailure {
    /// The task's name.
    pub task: Cow<'static, str>,
    /// How it ended.
    #[source]
    pub source: TaskError,
}

/// Why [`Tasks::finish`] is not a clean end.
#[derive(Debug, thiserror::Error)]
pub enum FinishError {
    /// A task failed that the process cannot be without.
    #[error("stopped because of a failure")]
    Failed(#[source] TaskFailure),
    /// Tasks did not end in time.
    #[error("still running after {seconds} s of grace: {}", .tasks.join(", "))]
    Unfinished {
        /// The grace, in seconds.
        seconds: u64,
        /// Their names.
        tasks: Vec<Cow<'static, str>>,
    },
}

/// A group of tasks. Clones are handles on the same group.
#[derive(Debug, Clone)]
pub struct Tasks {
    group: Arc<Group>,
}

#[derive(Debug)]
struct Group {
    tracker: TaskTracker,
    token: CancellationToken,
    names: Mutex<Names>,
    parent: Option<Tasks>,
    shutdown: Shutdown,
    /// The first failure that stopped the process; one for all groups.
    failure: Arc<Mutex<Option<TaskFailure>>>,
}

#[derive(Debug, Default)]
struct Names {
    next: u64,
    running: BTreeMap<u64, Cow<'static, str>>,
}

impl Tasks {
    /// The outermost group, which is cancelled by `shutdown`.
    pub fn new(shutdown: Shutdown) -> Self {
        let token = shutdown.token().child_token();
        Self { group: Arc::new(Group::new(token, None, shutdown, Arc::default())) }
    }

    /// A group inside this one: cancelled with it, or alone by [`Tasks::cancel`].
    pub fn group(&self) -> Self {
        let token = self.group.token.child_token();
        let failure = Arc::clone(&self.group.failure);
        Self { group: Arc::new(Group::new(token, Some(self.clone()), self.group.shutdown.clone(), failure)) }
    }

    /// The token that is cancelled when this group is to end.
    pub fn token(&self) -> &CancellationToken {
        &self.group.token
    }

    /// Asks the tasks of this group, and of groups inside it, to end.
    pub fn cancel(&self) {
        self.group.token.cancel();
    }

    /// Runs `body` as a task. It gets the token that tells it to end.
    pub fn spawn<Body, Running, Failure>(
        &self,
        name: impl Into<Cow<'static, str>>,
        on_error: OnError,
        on_cancel: OnCancel,
        body: Body,
    ) where
        Body: FnOnce(CancellationToken) -> Running + Send + 'static,
        Running: Future<Output = Result<(), Failure>> + Send + 'static,
        Failure: Into<BoxError>,
    {
        let name = name.into();
        let tasks = self.clone();
        let task = name.clone();
        self.start(name, async move {
            let token = tasks.group.token.clone();
            let result = run(async { body(token.clone()).await }, &token, on_cancel).await;
            if let Err(error) = result {
                tasks.failed(task, on_error, error);
            }
        });
    }

    /// Runs what `body` makes as a task, and makes and runs it again whenever it fails or panics, after
    /// a delay. A run that lasted longer than the longest delay counts as a success. Ends when a run
    /// ends well or the group is cancelled.
    pub fn spawn_restarting<Body, Running, Failure>(
        &self,
        name: impl Into<Cow<'static, str>>,
        policy: BackoffPolicy,
        on_cancel: OnCancel,
        mut body: Body,
    ) where
        Body: FnMut(CancellationToken) -> Running + Send + 'static,
        Running: Future<Output = Result<(), Failure>> + Send + 'static,
        Failure: Into<BoxError>,
    {
        let token = self.group.token.clone();
        self.start(name.into(), async move {
            let mut backoff = Backoff::new(policy);
            loop {
                let started = Instant::now();
                let body = &mut body;
                let run_token = token.clone();
                let Err(error) = run(async move { body(run_token).await }, &token, on_cancel).await else {
                    return;
                };
                if started.elapsed() > policy.max {
                    backoff.reset();
                }
                let delay = backoff.next_delay(rand::random());
                tracing::warn!(
                    error = %ErrorChain(&error),
                    failures = backoff.failures(),
                    delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
                    "task ended badly, starting it again"
                );
                // Both arms are cancel-safe: nothing is taken from anywhere.
                tokio::select! {
                    () = token.cancelled() => return,
                    () = tokio::time::sleep(delay) => {}
                }
            }
        });
    }

    /// Cancels this group and waits until its tasks, and those of groups inside it, have ended, at most
    /// for `grace`.
    ///
    /// # Errors
    /// The failure that stopped the process, if there was one; otherwise the tasks that still run.
    /// Those end with the runtime.
    pub async fn finish(&self, grace: Duration) -> Result<(), FinishError> {
        self.cancel();
        self.group.tracker.close();
        let in_time = tokio::time::timeout(grace, self.group.tracker.wait()).await.is_ok();
        if let Some(failure) = lock(&self.group.failure).take() {
            return Err(FinishError::Failed(failure));
        }
        if in_time {
            return Ok(());
        }
        Err(FinishError::Unfinished { seconds: grace.as_secs(), tasks: self.running() })
    }

    /// The names of the tasks that run in this group and in groups inside it.
    pub fn running(&self) -> Vec<Cow<'static, str>> {
        lock(&self.group.names).running.values().cloned().collect()
    }

    /// Spawns `task` so that this group and all around it know of it.
    fn start(&self, name: Cow<'static, str>, task: impl Future<Output = ()> + Send + 'static) {
        let span = tracing::info_span!("task", name = %name);
        let mut marks = Vec::new();
        let mut group = Some(self);
        while let Some(tasks) = group {
            marks.push(Mark::new(tasks, name.clone()));
            group = tasks.group.parent.as_ref();
        }
        let marked = async move {
            task.await;
            drop(marks);
        };
        self.group.tracker.spawn(marked.instrument(span));
    }

    fn failed(&self, task: Cow<'static, str>, on_error: OnError, error: TaskError) {
        match on_error {
            OnError::Log => tracing::warn!(error = %ErrorChain(&error), "task ended badly"),
            OnError::StopProcess => {
                tracing::error!(error = %ErrorChain(&error), "task ended badly, stopping the process");
                lock(&self.group.failure).get_or_insert(TaskFailure { task, source: error });
                self.group.shutdown.trigger();
            }
        }
    }
}

impl Group {
    fn new(
        token: CancellationToken,
        parent: Option<Tasks>,
        shutdown: Shutdown,
        failure: Arc<Mutex<Option<TaskFailure>>>,
    ) -> Self {
        Self { tracker: TaskTracker::new(), token, names: Mutex::default(), parent, shutdown, failure }
    }
}

/// A running task's entry in one group; gone when the task has ended, also by being dropped.
struct Mark {
    tasks: Tasks,
    number: u64,
    /// Keeps the group's `finish` waiting.
    _token: tokio_util::task::task_tracker::TaskTrackerToken,
}

impl Mark {
    fn new(tasks: &Tasks, name: Cow<'static, str>) -> Self {
        let mut names = lock(&tasks.group.names);
        let number = names.next;
        names.next += 1;
        names.running.insert(number, name);
        Self { tasks: tasks.clone(), number, _token: tasks.group.tracker.token() }
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        lock(&self.tasks.group.names).running.remove(&self.number);
    }
}

/// Runs to the end, to a panic, or to cancellation if that means being dropped.
async fn run<Failure: Into<BoxError>>(
    body: impl Future<Output = Result<(), Failure>>,
    token: &CancellationToken,
    on_cancel: OnCancel,
) -> Result<(), TaskError> {
    let mut body = pin!(body);
    let caught = std::future::poll_fn(|context| {
        // After a panic the future is never polled again, so nobody sees what it left half done.
        match catch_unwind(AssertUnwindSafe(|| body.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(result)) => Poll::Ready(result.map_err(|error| TaskError::Failed(error.into()))),
            Err(_) => Poll::Ready(Err(TaskError::Panicked)),
        }
    });
    match on_cancel {
        OnCancel::Finish => caught.await,
        // Dropping the body is what the second arm is for.
        OnCancel::Abort => tokio::select! {
            biased;
            () = token.cancelled() => Ok(()),
            result = caught => result,
        },
    }
}

/// Nothing panics while it holds one of these locks, so a poisoned one is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
