//! Newer versions of secrets and configs reach the services that follow them, and what nobody needs goes.

use coracle_model::id::FileId;
use coracle_model::secret::{Content, File};
use coracle_model::service::Service;

use crate::change::Change;
use crate::plan::{Plan, PlanContext};
use crate::state::{State, references};

/// What a file's newest version means for services, and which older ones to drop.
///
/// Pinned references stay. So do services that were rolled back, until there is a version that is newer than that; and jobs
/// that do not run by the clock, since a newer secret is no reason to do all of it again.
#[must_use]
pub fn plan_file(state: &State, id: FileId, _context: &mut PlanContext<'_>) -> Plan {
    let mut plan = Plan::default();
    let Some(file) = state.file(id) else { return plan };
    let latest = file.latest();
    let Some(newest) = file.contents.get(&latest) else { return plan };
    let behind =
        state.services().filter(|service| follows(service, file, latest) && may_follow(service, newest));
    plan.changes.extend(behind.map(|service| Change::FollowFile {
        service: service.id,
        file: id,
        content: latest,
    }));
    if !plan.changes.is_empty() {
        // What they leave behind is looked at when they have left it.
        return plan;
    }
    if file.contents.len() > 1 {
        let used = state.contents_in_use(id);
        let unused = file.contents.keys().filter(|number| **number != latest && !used.contains(number));
        plan.changes.extend(unused.map(|number| Change::CollectFile { file: id, content: *number }));
    }
    plan
}

fn follows(service: &Service, file: &File, latest: u64) -> bool {
    references(&service.spec.task, file.id).any(|reference| !reference.pinned && reference.content < latest)
}

fn may_follow(service: &Service, newest: &Content) -> bool {
    if service.spec.mode.is_job() && service.spec.job.schedule.is_none() {
        return false;
    }
    let rolled_back = service.update.as_ref().filter(|update| update.state.is_rollback());
    rolled_back.is_none_or(|update| newest.created_at > update.started_at)
}
