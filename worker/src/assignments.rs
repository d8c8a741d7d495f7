//! What the managers want of this node: a complete set, then increments that must fit.
//!
//! Pure. A message either leads to exactly the set that the managers computed, proven by its checksum, or is
//! refused whole, and the session begins again with a complete set.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use coracle_model::checksum;
use coracle_model::id::{FileId, ServiceId, TaskId};
use coracle_model::service::TaskSpec;
use coracle_model::task::{DesiredState, Slot};
use coracle_model::version::Version;
use coracle_proto::v1;

/// One task as this node got it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) id: TaskId,
    pub(crate) service: ServiceId,
    pub(crate) service_name: String,
    /// Of the service, when the task was given to this node.
    pub(crate) service_labels: BTreeMap<String, String>,
    pub(crate) slot: Slot,
    /// What to run; or why this version of the agent does not understand it, for which the task is rejected.
    pub(crate) spec: Result<Arc<TaskSpec>, String>,
    /// Which of this node's other things it has, by kind.
    pub(crate) generic: BTreeMap<String, Vec<String>>,
}

/// Why a message does not fit what this agent has: the session begins again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OutOfStep {
    #[error("assignments have sequence {got} where {wanted} was due: a message was lost")]
    Gap { got: u64, wanted: u64 },
    #[error("assignments begin with an increment (sequence {0}) instead of a complete set")]
    NotComplete(u64),
    #[error("assignments have checksum {told:016x}, the set here has {ours:016x}")]
    Checksum { told: u64, ours: u64 },
    #[error("assignments need secret or config {file}, version {content}, which was not sent")]
    FileMissing { file: FileId, content: u64 },
    #[error("assignments need an unusable {0}")]
    UnusableFile(String),
    #[error("assignments hold an unusable task {id:?}: {problem}")]
    Malformed { id: String, problem: String },
}

/// What a message asks for, beyond what was asked for before it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Change {
    /// Tasks to begin, or whose desired state may have risen.
    pub(crate) assigned: Vec<(TaskId, DesiredState, v1::AssignedTask)>,
    /// Held tasks that are no longer this node's.
    pub(crate) dropped: Vec<TaskId>,
    /// The message's number.
    pub(crate) sequence: u64,
    /// Whether this was a complete set.
    pub(crate) complete: bool,
}

/// The set in force, as far as it is needed to check messages.
#[derive(Debug, Default)]
pub(crate) struct AssignmentSet {
    tasks: BTreeMap<TaskId, (Version, DesiredState)>,
    /// Of the last message of the present session.
    sequence: Option<u64>,
}

impl AssignmentSet {
    /// Expects a complete set next.
    pub(crate) fn begin_session(&mut self) {
        self.sequence = None;
    }

    /// Takes over a message, or refuses it and stays as it is. `held` are the tasks this agent has,
    /// whether or not they were in an earlier set.
    pub(crate) fn apply(
        &mut self,
        message: v1::Assignments,
        held: impl Iterator<Item = TaskId>,
    ) -> Result<Change, OutOfStep> {
        self.check_sequence(&message)?;
        let mut tasks = if message.complete { BTreeMap::new() } else { self.tasks.clone() };
        let mut assigned = Vec::with_capacity(message.set.len());
        for task in message.set {
            let (id, version, desired) = header(&task)?;
            tasks.insert(id, (version, desired));
            assigned.push((id, desired, task));
        }
        let mut removed = BTreeSet::new();
        for id in &message.removed {
            let id = parse_id(id)?;
            tasks.remove(&id);
            removed.insert(id);
        }
        let ours =
            checksum::assignments(tasks.iter().map(|(id, (version, desired))| (*id, *version, *desired)));
        if ours != message.checksum {
            return Err(OutOfStep::Checksum { told: message.checksum, ours });
        }
        let dropped = held
            .filter(|id| if message.complete { !tasks.contains_key(id) } else { removed.contains(id) })
            .collect();
        self.tasks = tasks;
        self.sequence = Some(message.sequence);
        Ok(Change { assigned, dropped, sequence: message.sequence, complete: message.complete })
    }

    fn check_sequence(&self, message: &v1::Assignments) -> Result<(), OutOfStep> {
        match self.sequence {
            _ if message.complete => Ok(()),
            None => Err(OutOfStep::NotComplete(message.sequence)),
            Some(last) if message.sequence == last + 1 => Ok(()),
            Some(last) => Err(OutOfStep::Gap { got: message.sequence, wanted: last + 1 }),
        }
    }
}

fn parse_id(text: &str) -> Result<TaskId, OutOfStep> {
    text.parse().map_err(|error| malformed(text, format!("{error}")))
}

fn malformed(id: &str, problem: String) -> OutOfStep {
    OutOfStep::Malformed { id: id.to_owned(), problem }
}

fn header(task: &v1::AssignedTask) -> Result<(TaskId, Version, DesiredState), OutOfStep> {
    let id = parse_id(&task.id)?;
    let desired = u16::try_from(task.desired).ok().and_then(DesiredState::from_number);
    let desired =
        desired.ok_or_else(|| malformed(&task.id, format!("unknown desired state {}", task.desired)))?;
    Ok((id, Version::new(task.spec_version), desired))
}

impl Assignment {
    /// Reads a task. What this version does not understand of its specification becomes the reason for which it
    /// is rejected, so that one odd task does not keep the others from running.
    pub(crate) fn from_wire(id: TaskId, task: v1::AssignedTask) -> Self {
        let (service, slot, spec) = (task.service_id.parse(), task.slot.map(Slot::try_from), task.spec);
        let problem = |what: &str, error: String| format!("task has an unusable {what}: {error}");
        let spec = match (&service, &slot, spec.map(TaskSpec::try_from)) {
            (Err(error), ..) => Err(problem("service", format!("{error}"))),
            (_, Some(Err(error)), _) => Err(problem("slot", error.to_string())),
            (_, None, _) => Err(problem("slot", "it has none".to_owned())),
            (.., None) => Err(problem("specification", "it has none".to_owned())),
            (.., Some(Err(error))) => Err(problem("specification", error.to_string())),
            (.., Some(Ok(spec))) => Ok(Arc::new(spec)),
        };
        Self {
            id,
            service: service.unwrap_or(ServiceId::from_bits(0)),
            service_name: task.service_name,
            service_labels: task.service_labels.into_iter().collect(),
            slot: slot.and_then(Result::ok).unwrap_or(Slot::Number(0)),
            spec,
            generic: task.generic.into_iter().map(|(kind, names)| (kind, names.names)).collect(),
        }
    }

    /// Stands for a container that was found without anything known of its task.
    pub(crate) fn unknown(id: TaskId) -> Self {
        Self {
            id,
            service: ServiceId::from_bits(0),
            service_name: String::new(),
            service_labels: BTreeMap::new(),
            slot: Slot::Number(0),
            spec: Err("task is not in this node's journal and no manager assigned it".to_owned()),
            generic: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests;
