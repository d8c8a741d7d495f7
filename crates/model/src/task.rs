//! Tasks: one attempt at one container each. `docs/model/task.md` tells their life.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::health::HealthResult;
use crate::id::{NodeId, ServiceId, TaskId};
use crate::time::Timestamp;
use crate::version::Version;

/// One attempt at one container; never moved, only replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Who it is.
    pub id: TaskId,
    /// Last write to this object.
    pub version: Version,
    /// When it was made.
    pub created_at: Timestamp,
    /// Whose it is.
    pub service: ServiceId,
    /// Which specification of the service it runs.
    pub spec_version: Version,
    /// The place that it fills.
    pub slot: Slot,
    /// Where it runs, once that is decided.
    pub node: Option<NodeId>,
    /// What managers want of it; only rises.
    pub desired: DesiredState,
    /// When a task that is desired ready may be desired running: the restart delay.
    pub start_after: Option<Timestamp>,
    /// What its agent says of it; only rises.
    pub status: TaskStatus,
    /// When the managers first knew it running, by cluster time: what rollouts watch and wait by.
    pub running_since: Option<Timestamp>,
    /// The run of a job that it belongs to; zero for services that go on.
    pub run: u64,
    /// Tasks in a row before this one in its slot that ended of their own accord soon after they began: what the back-off of
    /// a crash loop is made of.
    pub crashes: u32,
    /// Which of its node's other things it has, by kind; counted ones have no names and are shown by their number.
    pub generic: BTreeMap<String, Vec<String>>,
}

/// The place that successive tasks of a service fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Slot {
    /// One of 1 to N of a replicated service.
    Number(u64),
    /// The place of a global service on this node.
    Node(NodeId),
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Node(node) => node.fmt(f),
        }
    }
}

/// What an agent says of a task.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TaskStatus {
    /// How far it is.
    pub state: TaskState,
    /// Since when, by the clock of whoever said so.
    pub since: Timestamp,
    /// What goes on, for the operator.
    pub message: String,
    /// What went wrong; empty when nothing did.
    pub error: String,
    /// How its process ended.
    pub exit: Option<Exit>,
    /// Process id on its node while it runs; zero when there is none.
    pub pid: u32,
    /// Starts that the agent made on its own while no manager could be reached.
    pub local_restarts: u32,
    /// What its health check found; none when it has none.
    pub health: Option<Health>,
}

/// What a task's health check found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Health {
    /// How it is.
    pub state: HealthState,
    /// Failures since the last success.
    pub failures: u32,
    /// The last results, the newest last. Sent with the first one, and when the state or the count of failures changes.
    pub results: Vec<HealthResult>,
}

/// How a task is by its health check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum HealthState {
    /// Not known yet.
    #[default]
    Starting,
    /// It serves.
    Healthy,
    /// It failed too often.
    Unhealthy,
}

impl HealthState {
    /// The word in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exit {
    /// With this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// By the kernel, because its memory limit was reached.
    OutOfMemory,
    /// Nobody saw it end.
    Unknown,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit status {code}"),
            Self::Signal(signal) => write!(f, "ended by signal {signal}"),
            Self::OutOfMemory => f.write_str("killed by the kernel: memory limit reached"),
            Self::Unknown => f.write_str("end was not observed"),
        }
    }
}

/// How far a task is, in order: the numbers are Swarm's and are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u16)]
pub enum TaskState {
    /// Made; waits for addresses.
    #[default]
    New = 0,
    /// Waits for a node.
    Pending = 64,
    /// Has a node.
    Assigned = 192,
    /// Its agent has it.
    Accepted = 256,
    /// Image, mounts and root are made ready.
    Preparing = 320,
    /// Could start; waits to be wanted running.
    Ready = 384,
    /// Started; not yet healthy.
    Starting = 448,
    /// Runs.
    Running = 512,
    /// Ended with status zero.
    Complete = 576,
    /// Stopped because it was wanted so.
    Shutdown = 640,
    /// Ended otherwise.
    Failed = 704,
    /// Could not be made to run.
    Rejected = 768,
    /// Its node was removed; nobody will say more.
    Orphaned = 832,
}

impl TaskState {
    /// All states in order.
    pub const ALL: [Self; 13] = [
        Self::New,
        Self::Pending,
        Self::Assigned,
        Self::Accepted,
        Self::Preparing,
        Self::Ready,
        Self::Starting,
        Self::Running,
        Self::Complete,
        Self::Shutdown,
        Self::Failed,
        Self::Rejected,
        Self::Orphaned,
    ];

    /// Whether nothing will happen to it any more.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        self > Self::Running
    }

    /// The stored number.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The state of a stored number.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.number() == number)
    }

    /// The word in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Pending => "pending",
            Self::Assigned => "assigned",
            Self::Accepted => "accepted",
            Self::Preparing => "preparing",
            Self::Ready => "ready",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Shutdown => "shutdown",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Orphaned => "orphaned",
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What managers want of a task, in order; only rises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u16)]
pub enum DesiredState {
    /// Everything prepared, not started.
    Ready = 384,
    /// Running.
    #[default]
    Running = 512,
    /// Stopped.
    Shutdown = 640,
    /// Stopped, and the record of it deleted.
    Remove = 800,
}

impl DesiredState {
    /// All states in order.
    pub const ALL: [Self; 4] = [Self::Ready, Self::Running, Self::Shutdown, Self::Remove];

    /// The stored number.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The state of a stored number.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.number() == number)
    }

    /// The word in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Shutdown => "shutdown",
            Self::Remove => "remove",
        }
    }
}

impl fmt::Display for DesiredState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a text is not a desired state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("desired-state: invalid value {0:?}: use ready, running, shutdown or remove")]
pub struct DesiredStateError(String);

impl FromStr for DesiredState {
    type Err = DesiredStateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "ready" => Ok(Self::Ready),
            "running" => Ok(Self::Running),
            "shutdown" => Ok(Self::Shutdown),
            "remove" => Ok(Self::Remove),
            other => Err(DesiredStateError(other.to_owned())),
        }
    }
}

impl TaskStatus {
    /// Takes over what an agent reports, unless that would go back.
    ///
    /// Returns whether anything changed. A repeat of the same state is taken only when it says something
    /// new, so that sending a report twice changes nothing.
    pub fn advance(&mut self, report: &Self) -> bool {
        let rises = report.state > self.state;
        let refines = report.state == self.state && !report.state.is_terminal() && report != self;
        if rises || refines {
            *self = report.clone();
        }
        rises || refines
    }
}

impl Task {
    /// Whether it holds its slot: wanted, and not ended.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.desired <= DesiredState::Running && !self.status.state.is_terminal()
    }

    /// Whether its process may still exist on its node.
    #[must_use]
    pub fn may_run(&self) -> bool {
        self.node.is_some() && !self.status.state.is_terminal()
    }

    /// Whether it counts as running for the operator.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.desired == DesiredState::Running && self.status.state == TaskState::Running
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn status(state: TaskState) -> TaskStatus {
        TaskStatus { state, ..TaskStatus::default() }
    }

    proptest! {
        #[test]
        fn reported_states_only_rise(reports in prop::collection::vec(0..TaskState::ALL.len(), 0..20)) {
            let mut current = status(TaskState::Assigned);
            for report in reports {
                let before = current.state;
                current.advance(&status(TaskState::ALL[report]));
                prop_assert!(current.state >= before);
                prop_assert!(!before.is_terminal() || current.state >= before);
            }
        }
    }

    #[test]
    fn the_same_report_twice_changes_nothing() {
        let mut current = status(TaskState::Assigned);
        let report = TaskStatus { pid: 7, ..status(TaskState::Running) };
        assert!(current.advance(&report));
        assert!(!current.advance(&report));
        assert!(current.advance(&TaskStatus { pid: 8, ..report }));
    }

    #[test]
    fn stored_numbers_are_read_back() {
        for state in TaskState::ALL {
            assert_eq!(TaskState::from_number(state.number()), Some(state));
        }
        assert_eq!(TaskState::from_number(1), None);
    }
}
