//! Changes and tasks in words.

use std::time::Duration;

use coracle_manager_core::Change;
use coracle_model::id::{FileId, TaskId};
use coracle_model::task::Task;

use super::World;

impl World {
    pub fn task_name(&self, id: TaskId) -> String {
        self.tasks.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }

    pub fn file_name(&self, id: FileId) -> String {
        self.state.file(id).map_or_else(|| id.to_string(), |file| file.name.to_string())
    }

    pub fn change_line(&self, change: &Change) -> String {
        match change {
            Change::CreateTask { task, .. } => {
                let name = self.task_name(task.id);
                let delay = task.start_after.map(|at| rounded(at.since(self.now))).unwrap_or_default();
                match task.start_after {
                    Some(_) if !delay.is_zero() => format!("create {name} {} for {delay:?}", task.desired),
                    _ => format!("create {name} {}", task.desired),
                }
            }
            Change::AssignTask { task, node, generic, .. } => {
                let with: String =
                    generic.iter().map(|(kind, names)| format!(" {kind}={}", names.join(","))).collect();
                format!("assign {} to {}{with}", self.task_name(*task), self.node_name(*node))
            }
            Change::RaiseDesired { task, desired, .. } => format!("want {} {desired}", self.task_name(*task)),
            Change::RemoveTask { task } => format!("delete {}", self.task_name(*task)),
            Change::SetUpdateProgress { service, progress, .. } => {
                format!("update of {} {}", self.service_name(*service), progress.state)
            }
            Change::SetRebalance { service, progress, .. } => {
                let moving = progress.moving.map_or_else(String::new, |moving| {
                    format!(": {} for {}", self.task_name(moving.to), self.task_name(moving.from))
                });
                format!("rebalance of {} {}{moving}", self.service_name(*service), progress.state)
            }
            Change::SetJobStatus { service, job, .. } => format!(
                "run {} of {} {}",
                job.run,
                self.service_name(*service),
                if job.ended_at.is_some() { "ended" } else { "goes on" }
            ),
            Change::RemoveService { service, .. } => format!("remove {}", self.service_name(*service)),
            Change::RollBackService { service, message, .. } => {
                format!("roll back {}: {}", self.service_name(*service), self.with_task_names(message))
            }
            Change::FollowFile { service, file, content } => {
                format!("give {} version {content} of {}", self.service_name(*service), self.file_name(*file))
            }
            Change::CollectFile { file, content } => {
                format!("drop version {content} of {}", self.file_name(*file))
            }
            other => format!("{other:?}"),
        }
    }

    pub fn task_line(&self, task: &Task) -> String {
        let node = task.node.map_or_else(|| "-".to_owned(), |node| self.node_name(node));
        format!("{} on {node}: {}, wanted {}", self.task_name(task.id), task.status.state, task.desired)
    }
}

/// To the nearest millisecond: entries applied meanwhile take a nanosecond each.
pub fn rounded(duration: Duration) -> Duration {
    Duration::from_millis((duration.as_micros() as u64 + 500) / 1000)
}
