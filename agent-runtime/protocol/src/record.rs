//! What is left on disk about a container's life.

use crate::Failure;
use serde::{Deserialize, Serialize};

/// The end of a container, written durably by its supervisor, or by the runtime when the supervisor is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// How it ended.
    pub outcome: Outcome,
    /// Whether the kernel killed a process of the container for want of memory.
    #[serde(default)]
    pub oom_killed: bool,
    /// When the program was executed, in nanoseconds since the Unix epoch; `None` if it never was.
    #[serde(default)]
    pub started_at: Option<u64>,
    /// When the end was seen, in nanoseconds since the Unix epoch.
    pub finished_at: u64,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The program ended by itself with this status, 0 to 255.
    Code(i32),
    /// The program was ended by this signal.
    Signal(i32),
    /// The program was never executed: setting up failed.
    Abandoned(Failure),
    /// Nobody saw the end: the host restarted, or the supervisor was killed.
    Lost {
        /// Which of the two, in words.
        reason: String,
    },
}

/// What a supervisor leaves for the next daemon once the container exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunState {
    /// Process id of the container's init in the supervisor's pid namespace.
    pub init_pid: i32,
    /// When the program was executed, in nanoseconds since the Unix epoch; `None` while it waits.
    pub started_at: Option<u64>,
}
