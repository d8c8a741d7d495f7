//! What one node should hold, and how that differs from what it was told before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use coracle_model::checksum;
use coracle_model::id::{FileId, NodeId, TaskId};
use coracle_model::service::TaskSpec;
use coracle_model::task::Task;

use crate::state::State;

/// A task as its node is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    /// The task.
    pub task: Arc<Task>,
    /// Its service's name; empty once the service is removed.
    pub service_name: String,
    /// Its service's labels.
    pub service_labels: BTreeMap<String, String>,
    /// What it is made of.
    pub spec: Arc<TaskSpec>,
}

impl Assigned {
    /// Whether a node that knows `other` knows all of this: how the task fares is for the node to say, and
    /// labels of the service reach only tasks that are made later.
    fn says_the_same(&self, other: &Self) -> bool {
        self.task.desired == other.task.desired && self.task.spec_version == other.task.spec_version
    }
}

/// The tasks that a node should hold: all that it was given and that have not ended.
#[must_use]
pub fn assignments(state: &State, node: NodeId) -> BTreeMap<TaskId, Assigned> {
    let assigned = |task: &Arc<Task>| {
        let spec = state.task_spec(task.service, task.spec_version)?;
        let service = state.service(task.service);
        Some(Assigned {
            task: Arc::clone(task),
            service_name: service.map(|service| service.spec.name.to_string()).unwrap_or_default(),
            service_labels: service.map(|service| service.spec.labels.clone()).unwrap_or_default(),
            spec: Arc::clone(spec),
        })
    };
    state
        .tasks_on_node(node)
        .filter(|task| task.may_run())
        .filter_map(|task| Some((task.id, assigned(task)?)))
        .collect()
}

/// What changed between two sets of assignments.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Difference {
    /// New tasks, and those of which something else is wanted.
    pub set: Vec<TaskId>,
    /// Tasks that are no longer the node's.
    pub removed: Vec<TaskId>,
}

impl Difference {
    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.removed.is_empty()
    }
}

/// What a node that holds `old` must be told so that it holds `new`.
#[must_use]
pub fn difference(old: &BTreeMap<TaskId, Assigned>, new: &BTreeMap<TaskId, Assigned>) -> Difference {
    let told = |id: &TaskId, task: &Assigned| old.get(id).is_some_and(|before| task.says_the_same(before));
    Difference {
        set: new.iter().filter(|(id, task)| !told(id, task)).map(|(id, _)| *id).collect(),
        removed: old.keys().filter(|id| !new.contains_key(id)).copied().collect(),
    }
}

/// The versions of secrets and configs that a node needs for its assignments, and no others: those of tasks that are to run.
#[must_use]
pub fn files(state: &State, assignments: &BTreeMap<TaskId, Assigned>) -> BTreeSet<(FileId, u64)> {
    let there = |(file, content): &(FileId, u64)| {
        state.file(*file).is_some_and(|file| file.contents.contains_key(content))
    };
    assignments
        .values()
        .filter(|assigned| state.needs_files(&assigned.task))
        .flat_map(|assigned| &assigned.spec.container.files)
        .map(|reference| (reference.file, reference.content))
        .filter(there)
        .collect()
}

/// The checksum over a set of assignments, which the agent computes too.
#[must_use]
pub fn checksum(assignments: &BTreeMap<TaskId, Assigned>) -> u64 {
    checksum::assignments(
        assignments
            .values()
            .map(|assigned| (assigned.task.id, assigned.task.spec_version, assigned.task.desired)),
    )
}

#[cfg(test)]
mod tests;
