//! What stands in front of the runtime: it sees to what containers need before they are made and after they are deleted, and
//! leaves everything else to what is behind it.

use std::time::Duration;

use coracle_model::id::TaskId;
use coracle_model::task::Exit;
use futures::future::BoxFuture;

use super::containers::{ContainerError, Containers, Executed, Found, LogSource, Reality};
use crate::launch::Launch;
use crate::logs::LogQuery;

/// Stands in front of a runtime, and is one thereby.
pub(crate) trait InFront: Send + Sync + 'static {
    /// What is behind it.
    fn behind(&self) -> &dyn Containers;

    /// As [`Containers::prepare`].
    fn make_ready(&self, launch: &Launch) -> Result<(), ContainerError> {
        self.behind().prepare(launch)
    }

    /// As [`Containers::create`].
    fn make(&self, launch: &Launch) -> Result<(), ContainerError>;

    /// As [`Containers::delete`].
    fn unmake(&self, task: TaskId) -> Result<(), ContainerError>;

    /// As [`Containers::recover`].
    fn find(&self) -> Result<Vec<Found>, ContainerError>;
}

impl<T: InFront> Containers for T {
    fn prepare(&self, launch: &Launch) -> Result<(), ContainerError> {
        self.make_ready(launch)
    }

    fn create(&self, launch: &Launch) -> Result<(), ContainerError> {
        self.make(launch)
    }

    fn delete(&self, task: TaskId) -> Result<(), ContainerError> {
        self.unmake(task)
    }

    fn recover(&self) -> Result<Vec<Found>, ContainerError> {
        self.find()
    }

    fn start(&self, task: TaskId) -> Result<u32, ContainerError> {
        self.behind().start(task)
    }

    fn inspect(&self, task: TaskId) -> Reality {
        self.behind().inspect(task)
    }

    fn ask_to_stop(&self, task: TaskId) -> Result<(), ContainerError> {
        self.behind().ask_to_stop(task)
    }

    fn kill(&self, task: TaskId) -> Result<(), ContainerError> {
        self.behind().kill(task)
    }

    fn execute(
        &self,
        task: TaskId,
        command: &[String],
        timeout: Duration,
    ) -> Result<Executed, ContainerError> {
        self.behind().execute(task, command, timeout)
    }

    fn wait(&self, task: TaskId) -> BoxFuture<'static, Exit> {
        self.behind().wait(task)
    }

    fn open_log(&self, query: &LogQuery) -> Result<Box<dyn LogSource>, ContainerError> {
        self.behind().open_log(query)
    }
}
