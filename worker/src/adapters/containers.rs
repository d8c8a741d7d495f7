//! Containers, as far as the agent cares: one per task, named by the task's id.

use std::collections::BTreeMap;
use std::time::Duration;

use coracle_model::id::TaskId;
use coracle_model::task::Exit;
use futures::future::BoxFuture;

use crate::launch::Launch;
use crate::logs::{Line, LogQuery};
pub use crate::task::fsm::Reality;

/// Why something could not be done to a container: text for the operator, with the step and its cause.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ContainerError(pub String);

/// How a program ended that was run inside a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed {
    /// Exit status, 128 and the signal's number where a signal ended it; none when its time was up.
    pub code: Option<i32>,
    /// The beginning of what it printed; why it was ended, where its time was up.
    pub output: String,
}

/// A container that was there when the agent began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Whose it is, by its name.
    pub task: TaskId,
    /// What it does.
    pub reality: Reality,
    /// What was kept with it.
    pub labels: BTreeMap<String, String>,
}

/// The container runtime. Methods that are not `async` may block for a while: callers give them a thread.
pub trait Containers: Send + Sync + 'static {
    /// Does beforehand what may take long of making a container, as filling a new volume.
    ///
    /// # Errors
    /// As making it.
    fn prepare(&self, launch: &Launch) -> Result<(), ContainerError> {
        let _ = launch;
        Ok(())
    }

    /// Makes a container that waits to be started, with whatever was not prepared.
    ///
    /// # Errors
    /// If it cannot be set up, e.g. because a bind's source or the user does not exist.
    fn create(&self, launch: &Launch) -> Result<(), ContainerError>;

    /// Starts it; returns the process id of its first process.
    ///
    /// # Errors
    /// If its program cannot be executed.
    fn start(&self, task: TaskId) -> Result<u32, ContainerError>;

    /// What is known of a container.
    fn inspect(&self, task: TaskId) -> Reality;

    /// Sends the stop signal that it was made with to its first process; nothing if it ended.
    ///
    /// # Errors
    /// If it could not be sent.
    fn ask_to_stop(&self, task: TaskId) -> Result<(), ContainerError>;

    /// Kills everything in it; nothing if it ended.
    ///
    /// # Errors
    /// If that failed.
    fn kill(&self, task: TaskId) -> Result<(), ContainerError>;

    /// Runs a program inside it with the restrictions of its own one, and waits for the end, which comes within the time
    /// given: then it is killed.
    ///
    /// # Errors
    /// If it could not be run.
    fn execute(
        &self,
        task: TaskId,
        command: &[String],
        timeout: Duration,
    ) -> Result<Executed, ContainerError>;

    /// Deletes it and all that belongs to it except its log; nothing if there is none.
    ///
    /// # Errors
    /// If something was left.
    fn delete(&self, task: TaskId) -> Result<(), ContainerError>;

    /// Every container there is.
    ///
    /// # Errors
    /// If they cannot be listed.
    fn recover(&self) -> Result<Vec<Found>, ContainerError>;

    /// Ends when the container has ended, with how. Waits without polling.
    fn wait(&self, task: TaskId) -> BoxFuture<'static, Exit>;

    /// Opens a task's log where the query begins. A log that does not exist (yet) is an empty one.
    ///
    /// # Errors
    /// If the log cannot be read.
    fn open_log(&self, query: &LogQuery) -> Result<Box<dyn LogSource>, ContainerError>;
}

/// One task's log, read in order.
pub trait LogSource: Send {
    /// The next line; none if there is none yet. Reads files, but never waits for lines.
    ///
    /// # Errors
    /// If the log cannot be read.
    fn next_line(&mut self) -> Result<Option<Line>, ContainerError>;
}
