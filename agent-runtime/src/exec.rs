//! Programs that are run inside a running container beside its own.

use crate::error::RuntimeError;
use crate::spec::User;
use crate::validate;
use coracle_runtime_protocol as protocol;
use std::time::Duration;

/// A program to be run with exactly the restrictions of the container's own: namespaces, cgroup, user, capabilities,
/// system call filter, resource limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecSpec {
    /// Program and arguments. A program without a slash is looked up in the container's `PATH`.
    pub args: Vec<String>,
    /// `NAME=value` strings on top of the container's.
    pub env: Vec<String>,
    /// `None` is the container's user, looked up again.
    pub user: Option<User>,
    /// Absolute path in the container; `None` is the container's.
    pub cwd: Option<String>,
    /// Time after which the program is killed with its process group; a day at most.
    pub timeout: Duration,
    /// Bytes that are kept of its output, 128 KiB at most; the rest is read and dropped.
    pub output_limit: u32,
}

impl ExecSpec {
    /// This program as the container's own user, with everything else the container's.
    #[must_use]
    pub fn new(args: Vec<String>, timeout: Duration) -> Self {
        Self {
            args,
            env: Vec::new(),
            user: None,
            cwd: None,
            timeout,
            output_limit: protocol::EXEC_OUTPUT_BYTES,
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecResult {
    /// How it ended.
    pub end: ExecEnd,
    /// The beginning of what it wrote to standard output and standard error, in the order of writing. What is not UTF-8
    /// became U+FFFD.
    pub output: String,
    /// Whether it wrote more.
    pub truncated: bool,
}

/// How such a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecEnd {
    /// With this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It took too long and was killed, with its process group.
    TimedOut,
}

impl ExecSpec {
    /// As the supervisor is asked for it.
    pub(crate) fn request(&self) -> Result<protocol::Exec, RuntimeError> {
        validate::exec(self)?;
        Ok(protocol::Exec {
            arguments: self.args.clone(),
            environment: self.env.clone(),
            user: self.user.as_ref().map(|user| protocol::ExecUser {
                user: user.user.clone(),
                group: user.group.clone(),
                additional_groups: user.additional_groups.clone(),
            }),
            working_directory: self.cwd.clone(),
            timeout_milliseconds: u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX),
            output_bytes: self.output_limit,
        })
    }
}

impl From<protocol::Executed> for ExecResult {
    fn from(executed: protocol::Executed) -> Self {
        Self {
            end: match executed.end {
                protocol::ExecEnd::Code(code) => ExecEnd::Code(code),
                protocol::ExecEnd::Signal(signal) => ExecEnd::Signal(signal),
                protocol::ExecEnd::TimedOut => ExecEnd::TimedOut,
            },
            output: executed.output,
            truncated: executed.truncated,
        }
    }
}
