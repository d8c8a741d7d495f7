//! What the runtime and its supervisor program say to each other and leave on disk.
//!
//! The runtime (inside the daemon) writes a [`Plan`] into a memory file and starts the supervisor with it.
//! The supervisor answers once with a [`Report`], serves [`Request`]s on a socket in its run directory, and leaves
//! an [`ExitRecord`] in the durable directory of the container. Everything is JSON: a daemon may be newer than the
//! supervisors that it adopts, so fields are only ever added, with a default.

mod control;
mod exec;
mod failure;
mod hook;
mod plan;
mod record;

pub use control::{Reply, Report, Request};
pub use exec::{Exec, ExecEnd, ExecUser, Executed};
pub use failure::{Failure, FailureKind, errno_name};
pub use hook::{Hook, HookPlace, HookState};
pub use plan::{
    Credentials, DeviceNode, HostDevice, LogPlan, MountAttributes, OutOfMemoryCounter, Plan, Program,
    Propagation, ResourceLimit, Step,
};
pub use record::{ExitRecord, Outcome, RunState};

/// File in the durable directory that the supervisor holds a POSIX record lock on for as long as it lives. It is there
/// and not in the run directory, because a service manager may empty that one while containers run.
pub const LOCK_FILE: &str = "lock";
/// Socket in the run directory on which the supervisor serves [`Request`]s, one per connection.
pub const CONTROL_SOCKET: &str = "control";
/// File in the durable directory with the [`RunState`] of a living container. It means nothing after a reboot.
pub const STATE_FILE: &str = "state.json";
/// File in the durable directory with the [`ExitRecord`]; in the run directory if the durable one took nothing.
pub const EXIT_FILE: &str = "exit.json";
/// File in the durable directory that becomes [`EXIT_FILE`]. Its room on the disk is taken at the start, so that a full
/// disk does not cost the record.
pub const EXIT_FILE_PREPARED: &str = "exit.json.new";
/// Room for an [`ExitRecord`] in bytes; nearly all are far shorter.
pub const EXIT_FILE_BYTES: u64 = 4096;
/// Name of the log that is being written; older ones have `.1`, `.2`, … appended.
pub const LOG_FILE: &str = "container.log";
/// Longest [`Request`] in bytes.
pub const REQUEST_BYTES: u64 = 256 * 1024;
/// Longest [`Reply`] in bytes, and with it room for [`EXEC_OUTPUT_BYTES`] in which each byte was escaped.
pub const REPLY_BYTES: u64 = 1024 * 1024;
/// Most bytes that are kept of the output of an [`Exec`].
pub const EXEC_OUTPUT_BYTES: u32 = 128 * 1024;
/// Largest number of bytes of program output in one log record.
pub const LOG_RECORD_BYTES: usize = 16 * 1024;
