//! Tasks, their slots, states and ends.

use std::collections::{BTreeMap, HashMap};

use coracle_model::task::{DesiredState, Exit, Slot, Task, TaskState, TaskStatus};
use coracle_model::version::Version;

use super::{DecodeError, parse, required, timestamp};
use crate::v1;

impl From<Slot> for v1::Slot {
    fn from(slot: Slot) -> Self {
        let slot = match slot {
            Slot::Number(number) => v1::slot::Slot::Number(number),
            Slot::Node(node) => v1::slot::Slot::Node(node.to_string()),
        };
        Self { slot: Some(slot) }
    }
}

impl From<&Slot> for v1::Slot {
    fn from(slot: &Slot) -> Self {
        (*slot).into()
    }
}

impl TryFrom<v1::Slot> for Slot {
    type Error = DecodeError;

    fn try_from(message: v1::Slot) -> Result<Self, DecodeError> {
        Ok(match required("slot", message.slot)? {
            v1::slot::Slot::Number(number) => Self::Number(number),
            v1::slot::Slot::Node(node) => Self::Node(parse("slot node", &node)?),
        })
    }
}

impl From<Exit> for v1::Exit {
    fn from(exit: Exit) -> Self {
        let how = match exit {
            Exit::Code(code) => v1::exit::How::Code(code),
            Exit::Signal(signal) => v1::exit::How::Signal(signal),
            Exit::OutOfMemory => v1::exit::How::OutOfMemory(true),
            Exit::Unknown => v1::exit::How::Unknown(true),
        };
        Self { how: Some(how) }
    }
}

impl From<&Exit> for v1::Exit {
    fn from(exit: &Exit) -> Self {
        (*exit).into()
    }
}

impl From<v1::Exit> for Exit {
    /// An end of a kind that this version does not know is an unknown end: the task ended all the same.
    fn from(message: v1::Exit) -> Self {
        match message.how {
            Some(v1::exit::How::Code(code)) => Self::Code(code),
            Some(v1::exit::How::Signal(signal)) => Self::Signal(signal),
            Some(v1::exit::How::OutOfMemory(_)) => Self::OutOfMemory,
            Some(v1::exit::How::Unknown(_)) | None => Self::Unknown,
        }
    }
}

/// The observed state behind its number.
///
/// # Errors
/// When there is no such state.
pub fn task_state(number: u32) -> Result<TaskState, DecodeError> {
    u16::try_from(number)
        .ok()
        .and_then(TaskState::from_number)
        .ok_or_else(|| DecodeError::invalid("task state", number, "no state has this number"))
}

/// The desired state behind its number.
///
/// # Errors
/// When there is no such state.
pub fn desired_state(number: u32) -> Result<DesiredState, DecodeError> {
    u16::try_from(number)
        .ok()
        .and_then(DesiredState::from_number)
        .ok_or_else(|| DecodeError::invalid("desired state", number, "no state has this number"))
}

impl From<&TaskStatus> for v1::TaskStatus {
    fn from(status: &TaskStatus) -> Self {
        Self {
            state: status.state.number().into(),
            since: status.since.as_nanos(),
            message: status.message.clone(),
            error: status.error.clone(),
            exit: status.exit.map(Into::into),
            pid: status.pid,
            local_restarts: status.local_restarts,
            health: status.health.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<v1::TaskStatus> for TaskStatus {
    type Error = DecodeError;

    fn try_from(message: v1::TaskStatus) -> Result<Self, DecodeError> {
        Ok(Self {
            state: task_state(message.state)?,
            since: timestamp(message.since),
            message: message.message,
            error: message.error,
            exit: message.exit.map(Into::into),
            pid: message.pid,
            local_restarts: message.local_restarts,
            health: message.health.map(TryInto::try_into).transpose()?,
        })
    }
}

impl From<&Task> for v1::Task {
    fn from(task: &Task) -> Self {
        Self {
            id: task.id.to_string(),
            version: task.version.index(),
            created_at: task.created_at.as_nanos(),
            service: task.service.to_string(),
            spec_version: task.spec_version.index(),
            slot: Some(task.slot.into()),
            node: task.node.map(|node| node.to_string()).unwrap_or_default(),
            desired: task.desired.number().into(),
            start_after: task.start_after.map(|time| time.as_nanos()),
            status: Some((&task.status).into()),
            running_since: task.running_since.map(|time| time.as_nanos()),
            run: task.run,
            crashes: task.crashes,
            generic: names(&task.generic),
        }
    }
}

impl TryFrom<v1::Task> for Task {
    type Error = DecodeError;

    fn try_from(message: v1::Task) -> Result<Self, DecodeError> {
        let node = if message.node.is_empty() { None } else { Some(parse("task node", &message.node)?) };
        Ok(Self {
            id: parse("task", &message.id)?,
            version: Version::new(message.version),
            created_at: timestamp(message.created_at),
            service: parse("task service", &message.service)?,
            spec_version: Version::new(message.spec_version),
            slot: required("slot", message.slot)?.try_into()?,
            node,
            desired: desired_state(message.desired)?,
            start_after: message.start_after.map(timestamp),
            status: required("task status", message.status)?.try_into()?,
            running_since: message.running_since.map(timestamp),
            run: message.run,
            crashes: message.crashes,
            generic: message.generic.into_iter().map(|(kind, names)| (kind, names.names)).collect(),
        })
    }
}

/// Which of a node's other things a task has, by kind, as they travel.
#[must_use]
pub fn names(generic: &BTreeMap<String, Vec<String>>) -> HashMap<String, v1::Names> {
    generic.iter().map(|(kind, names)| (kind.clone(), v1::Names { names: names.clone() })).collect()
}
