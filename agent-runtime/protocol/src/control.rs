//! Messages between a living supervisor and the daemon.

use crate::{Exec, Executed, Failure};
use serde::{Deserialize, Serialize};

/// The supervisor's one answer to the daemon that started it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// The container is set up and waits for [`Request::Start`].
    Created {
        /// Process id of the container's init in the daemon's pid namespace.
        init_pid: i32,
    },
    /// The program was executed.
    Started {
        /// Process id of the container's init in the daemon's pid namespace.
        init_pid: i32,
        /// When, in nanoseconds since the Unix epoch.
        started_at: u64,
    },
    /// Nothing runs; the exit record says the same.
    Failed(Failure),
}

/// What the daemon may ask of a supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Execute the program of a created container.
    Start,
    /// Send a signal to the container's init. The supervisor is its parent, so the process cannot have been replaced.
    Signal {
        /// Signal number, 1 to 64.
        number: i32,
    },
    /// Run another program in the running container. Not to be asked twice: it would run twice.
    Exec(Exec),
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The program runs since this time, in nanoseconds since the Unix epoch.
    Started {
        /// Nanoseconds since the Unix epoch.
        started_at: u64,
    },
    /// The signal was sent.
    Done,
    /// The program of [`Request::Exec`] ran and ended.
    Executed(Executed),
    /// The request could not be carried out.
    Failed(Failure),
}
