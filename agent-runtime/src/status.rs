//! What is known about a container.

use coracle_runtime_protocol::{ExitRecord, Failure, Outcome};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where a container is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Being set up by a call that has not returned, or left half-made by one that never did. Delete it.
    Unknown,
    /// Set up, waiting for its start.
    Created,
    /// The program runs.
    Running {
        /// Process id of the container's process 1 in the caller's namespace. For showing only: it may be reused
        /// after the end, so signals go through the runtime.
        pid: i32,
        /// When the program was executed.
        started_at: SystemTime,
    },
    /// Over.
    Exited(Exit),
}

/// The end of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// How it ended.
    pub reason: ExitReason,
    /// Whether the kernel killed one of its processes for want of memory.
    pub oom_killed: bool,
    /// When the program was executed, if it was.
    pub started_at: Option<SystemTime>,
    /// When the end was seen.
    pub finished_at: SystemTime,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// By itself, with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It was never started, because setting up failed.
    SetupFailed(Failure),
    /// Nobody saw the end; the words say why.
    Lost(String),
}

impl Exit {
    /// The exit status as shells have it: 128 and the signal, 127 or 126 for a program that could not be executed.
    /// `None` if nobody saw the end.
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        use coracle_runtime_protocol::FailureKind;
        match &self.reason {
            ExitReason::Code(code) => Some(*code),
            ExitReason::Signal(signal) => Some(128 + signal),
            ExitReason::SetupFailed(failure) => Some(match failure.kind {
                FailureKind::ProgramNotFound => 127,
                FailureKind::ProgramNotExecutable => 126,
                _ => 125,
            }),
            ExitReason::Lost(_) => None,
        }
    }
}

impl From<ExitRecord> for Exit {
    fn from(record: ExitRecord) -> Self {
        Self {
            reason: match record.outcome {
                Outcome::Code(code) => ExitReason::Code(code),
                Outcome::Signal(signal) => ExitReason::Signal(signal),
                Outcome::Abandoned(failure) => ExitReason::SetupFailed(failure),
                Outcome::Lost { reason } => ExitReason::Lost(reason),
            },
            oom_killed: record.oom_killed,
            started_at: record.started_at.map(time),
            finished_at: time(record.finished_at),
        }
    }
}

/// A recorded time.
pub(crate) fn time(nanoseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanoseconds)
}

/// Now, as recorded.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |age| u64::try_from(age.as_nanos()).unwrap_or(u64::MAX))
}
