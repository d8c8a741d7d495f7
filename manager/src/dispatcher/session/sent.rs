//! What an agent is sent of its tasks and of the files that they need.

use std::collections::BTreeSet;

use coracle_manager_core::assign::Assigned;
use coracle_model::id::FileId;
use coracle_model::restart::{RestartCondition, RestartPolicy};
use coracle_proto::v1;

/// The versions of files that the agent is to hold.
pub(super) fn file_set(files: &BTreeSet<(FileId, u64)>) -> v1::AssignedFileSet {
    let key =
        |(file, content): &(FileId, u64)| v1::AssignedFileKey { file: file.to_string(), content: *content };
    v1::AssignedFileSet { files: files.iter().map(key).collect() }
}

/// Everything that an agent needs of one task.
pub(super) fn assigned_task(assigned: &Assigned) -> v1::AssignedTask {
    let task = &assigned.task;
    let restart = restart_without_managers(task.run, assigned.spec.restart);
    v1::AssignedTask {
        id: task.id.to_string(),
        service_id: task.service.to_string(),
        service_name: assigned.service_name.to_string(),
        service_labels: assigned.service_labels.clone().into_iter().collect(),
        spec_version: task.spec_version.index(),
        slot: Some((&task.slot).into()),
        spec: Some(v1::TaskSpec { restart: Some((&restart).into()), ..(&*assigned.spec).into() }),
        desired: u32::from(task.desired.number()),
        generic: coracle_proto::convert::task::names(&task.generic),
    }
}

/// By which policy an agent starts a task again while no manager can be reached. It knows nothing of jobs, of which what has
/// completed is never done again; tasks of other services are of run 0.
fn restart_without_managers(run: u64, restart: RestartPolicy) -> RestartPolicy {
    match restart.condition {
        RestartCondition::Any if run > 0 => {
            RestartPolicy { condition: RestartCondition::OnFailure, ..restart }
        }
        _ => restart,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_agent_does_the_work_of_a_job_twice() {
        use RestartCondition::{Any, None, OnFailure};
        let told = |run, condition| {
            restart_without_managers(run, RestartPolicy { condition, ..RestartPolicy::default() }).condition
        };
        assert_eq!([Any, None, OnFailure].map(|condition| told(0, condition)), [Any, None, OnFailure]);
        assert_eq!([Any, None, OnFailure].map(|condition| told(7, condition)), [OnFailure, None, OnFailure]);
    }
}
