//! Errors of the runtime.

use crate::id::ContainerId;
use coracle_runtime_protocol::{Failure, FailureKind};
use std::io;
use std::path::{Path, PathBuf};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The specification asks for something that cannot be.
    #[error("container {field} {value:?} is refused: {why}")]
    InvalidSpec {
        /// Field of the specification.
        field: &'static str,
        /// Its value.
        value: String,
        /// Why, and what would help.
        why: String,
    },
    /// The id is taken.
    #[error("container {0} exists already; delete it first or choose another id")]
    AlreadyExists(ContainerId),
    /// There is no such container.
    #[error("container {0} does not exist")]
    NotFound(ContainerId),
    /// The call does not fit the container's state.
    #[error("container {id} is {state}, so it cannot be {wanted}")]
    WrongState {
        /// Which container.
        id: ContainerId,
        /// Its state.
        state: &'static str,
        /// What was asked.
        wanted: &'static str,
    },
    /// Setting the container up failed at this step.
    #[error("container {id} could not be set up: {failure}")]
    Setup {
        /// Which container.
        id: ContainerId,
        /// The step and the call that failed.
        failure: Failure,
    },
    /// The supervisor did not do its part.
    #[error("supervisor of container {id}: {why}")]
    Supervisor {
        /// Which container.
        id: ContainerId,
        /// What happened.
        why: String,
    },
    /// The host lacks something that containers need.
    #[error("this host cannot run containers: {0}")]
    Host(String),
    /// A file or kernel interface failed.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Something of a deleted container is left. Deleting again tries again.
    #[error("container {id} was not removed completely: {}", list(errors))]
    Cleanup {
        /// Which container.
        id: ContainerId,
        /// Everything that failed.
        errors: Vec<RuntimeError>,
    },
}

fn list(errors: &[RuntimeError]) -> String {
    use std::error::Error;
    let line = |error: &RuntimeError| match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    errors.iter().map(line).collect::<Vec<_>>().join("; ")
}

impl RuntimeError {
    /// Whether trying again on this node with the same specification cannot help, so that the task should be
    /// rejected with this error as its reason.
    #[must_use]
    pub fn is_rejection(&self) -> bool {
        match self {
            Self::InvalidSpec { .. } => true,
            Self::Setup { failure, .. } => failure.kind != FailureKind::Other,
            _ => false,
        }
    }
}

/// Names what was done to which file.
pub(crate) trait IoContext<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, RuntimeError>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, RuntimeError> {
        self.map_err(|source| RuntimeError::Io { doing, path: path.to_owned(), source })
    }
}

impl<T> IoContext<T> for rustix::io::Result<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, RuntimeError> {
        self.map_err(io::Error::from).doing(doing, path)
    }
}
