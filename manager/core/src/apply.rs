//! Applying entries: total, deterministic, all or nothing.

mod cluster;
mod file;
mod image;
mod node;
mod service;
mod task;

#[cfg(test)]
mod tests;

use std::fmt::Display;

use coracle_model::time::Timestamp;
use coracle_model::version::Version;

use crate::change::{Change, Proposal};
use crate::outcome::{Outcome, Refusal, RefusalKind};
use crate::state::State;
use crate::touched::Touched;

/// Applies an entry of the log: all of its changes, or none.
///
/// `index` and `term` are the entry's own. An entry that was proposed in another term is refused, since its
/// author no longer led; a mark that was seen before answers with the first index and changes nothing.
/// Cluster time is the proposer's, but rises with every entry, so that creation times order tasks.
pub fn apply(state: &mut State, index: u64, term: u64, proposal: &Proposal) -> (Outcome, Touched) {
    state.set_index(index);
    if proposal.term != 0 && proposal.term != term {
        let message =
            format!("proposed in term {}, reached the log in term {term}; try again", proposal.term);
        return (Outcome::Refused(Refusal::new(RefusalKind::NotLeader, message)), Touched::default());
    }
    if let Some(first) = proposal.idempotency.and_then(|key| state.applied_at(key)) {
        return (Outcome::Applied(Version::new(first)), Touched::default());
    }
    let time = proposal.time.max(state.time().after(std::time::Duration::from_nanos(1)));
    let mut writing =
        Writing { state: state.clone(), version: Version::new(index), time, touched: Touched::default() };
    if let Err(refusal) = proposal.changes.iter().try_for_each(|change| writing.apply(change)) {
        return (Outcome::Refused(refusal), Touched::default());
    }
    let Writing { state: mut written, mut touched, .. } = writing;
    if let Some(key) = proposal.idempotency {
        written.put_applied_key(key, index);
    }
    written.set_time(time);
    touched.pending &= written.pending_count() > 0;
    *state = written;
    (Outcome::Applied(Version::new(index)), touched)
}

/// An entry being applied to a copy of the state.
struct Writing {
    state: State,
    /// Of everything that the entry writes.
    version: Version,
    /// Cluster time of the entry.
    time: Timestamp,
    touched: Touched,
}

type Applied = Result<(), Refusal>;

impl Writing {
    fn apply(&mut self, change: &Change) -> Applied {
        match change {
            Change::CreateCluster(cluster) => self.create_cluster(cluster),
            Change::UpdateCluster { cluster, expected } => self.update_cluster(cluster, *expected),
            Change::CreateNode(node) => self.create_node(node),
            Change::UpdateNodeSpec { node, expected, spec } => self.update_node_spec(*node, *expected, spec),
            Change::DescribeNode { node, description, address } => {
                self.describe_node(*node, description, address)
            }
            Change::SetNodeStatus { node, state, message } => self.set_node_status(*node, *state, message),
            Change::SetManagerMember { node, member } => self.set_manager_member(*node, member.as_ref()),
            Change::RemoveNode { node, expected } => self.remove_node(*node, *expected),
            Change::CreateService(service) => self.create_service(service),
            Change::UpdateService { service, expected, spec } => {
                self.update_service(*service, *expected, spec)
            }
            Change::RollBackService { service, expected, message, automatic } => {
                self.roll_back_service(*service, *expected, message, *automatic)
            }
            Change::SetJobStatus { service, expected, job } => self.set_job_status(*service, *expected, job),
            Change::SetUpdateProgress { service, expected, progress } => {
                self.set_update_progress(*service, *expected, progress)
            }
            Change::SetRebalance { service, expected, progress } => {
                self.set_rebalance(*service, *expected, progress)
            }
            Change::RemoveService { service, expected } => self.remove_service(*service, *expected),
            Change::CreateTask { task, service_version, beside } => {
                self.create_task(task, *service_version, *beside)
            }
            Change::AssignTask { task, expected, node, node_version, generic } => {
                self.assign_task(*task, *expected, *node, *node_version, generic)
            }
            Change::RaiseDesired { task, desired, service_version } => {
                self.raise_desired(*task, *desired, *service_version)
            }
            Change::ReportTask { task, node, status } => self.report_task(*task, *node, status),
            Change::RemoveTask { task } => self.remove_task(*task),
            Change::PutImage(image) => self.put_image(image),
            Change::RemoveImage { name } => self.remove_image(name),
            Change::CreateFile(file) => self.create_file(file),
            Change::UpdateFile { file, expected, labels, data } => {
                self.update_file(*file, *expected, labels.as_ref(), data.as_ref())
            }
            Change::RemoveFile { file, expected } => self.remove_file(*file, *expected),
            Change::CollectFile { file, content } => self.collect_file(*file, *content),
            Change::FollowFile { service, file, content } => self.follow_file(*service, *file, *content),
        }
    }
}

fn not_found(kind: &str, id: impl Display) -> Refusal {
    Refusal::new(RefusalKind::NotFound, format!("{kind} {id} does not exist"))
}

fn check_version(kind: &str, id: impl Display, present: Version, expected: Version) -> Applied {
    if expected == Version::default() || expected == present {
        return Ok(());
    }
    let message = format!(
        "update out of sequence: {kind} {id} is at version {present}, not {expected}; read it again and repeat"
    );
    Err(Refusal::new(RefusalKind::Stale, message))
}
