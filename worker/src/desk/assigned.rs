//! What managers assign, and when the node is in step with it.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use coracle_model::id::TaskId;
use coracle_model::restart::RestartPolicy;
use coracle_model::service::DEFAULT_STOP_GRACE;
use coracle_model::task::{DesiredState, TaskState, TaskStatus};
use coracle_proto::v1;
use futures::FutureExt as _;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::{Applied, Desk, Entry, Event};
use crate::adapters::containers::Found;
use crate::assignments::{Assignment, OutOfStep};
use crate::files;
use crate::journal::TaskRecord;
use crate::launch::LABEL_STOP_GRACE;
use crate::task::fsm::{Machine, Setup};
use crate::task::restart::History;
use crate::task::runner::{Runner, Wish};

/// Wait before another runner takes over from one that panicked, so that a bug is no busy loop.
const AFTER_PANIC: Duration = Duration::from_secs(1);

impl Desk {
    pub(super) fn on_assignments(&mut self, message: v1::Assignments) -> Result<Applied, OutOfStep> {
        let needed =
            message.files.as_ref().map(files::needed).transpose().map_err(OutOfStep::UnusableFile)?;
        let shelf = self.workshop.files.clone();
        if let Some((file, content)) = needed.as_ref().and_then(|needed| shelf.missing(needed)) {
            return Err(OutOfStep::FileMissing { file, content });
        }
        let held = self.tasks.keys().chain(self.strays.keys()).copied();
        let change = self.set.apply(message, held)?;
        if let Some(needed) = needed {
            shelf.keep_only(&needed);
        }
        for (task, desired, assigned) in change.assigned {
            self.assign(task, desired, assigned);
        }
        for task in change.dropped {
            self.drop_task(task);
        }
        let settled = change.complete.then(|| self.settle());
        Ok(Applied { sequence: change.sequence, settled })
    }

    pub(super) fn assign(&mut self, task: TaskId, desired: DesiredState, assigned: v1::AssignedTask) {
        if let Some(entry) = self.tasks.get_mut(&task) {
            if desired > entry.record.desired {
                entry.record.desired = desired;
                self.journal.put_record(task, &entry.record);
                entry.wish.send_modify(|wish| wish.desired = desired);
            }
            return;
        }
        if self.left {
            return;
        }
        let stray = self.strays.remove(&task);
        let status =
            TaskStatus { state: TaskState::Accepted, since: self.workshop.now(), ..TaskStatus::default() };
        let record = TaskRecord { desired, status, acknowledged: false, history: History::default() };
        self.journal.put_assigned(task, &assigned);
        self.journal.put_record(task, &record);
        self.begin(Arc::new(Assignment::from_wire(task, assigned)), record, stray);
        // Not before its own image is held.
        self.stray_images.remove(&task);
    }

    pub(super) fn begin(&mut self, assignment: Arc<Assignment>, record: TaskRecord, stray: Option<Found>) {
        let spec = assignment.spec.as_ref().ok();
        let machine = Machine::new(Setup {
            desired: record.desired,
            status: record.status.clone(),
            acknowledged: record.acknowledged,
            history: record.history.clone(),
            restart: spec.map_or_else(RestartPolicy::default, |spec| spec.restart),
            stop_grace: spec.map_or_else(|| stray_grace(stray.as_ref()), |spec| spec.container.stop_grace),
            pre_stop_delay: spec.map(|spec| spec.container.pre_stop_delay).unwrap_or_default(),
        });
        let wish = Wish { desired: record.desired, offline: self.offline, ..Wish::default() };
        let (wish, wished) = watch::channel(wish);
        let ended = CancellationToken::new();
        if record.status.state.is_terminal() {
            ended.cancel();
        }
        let runner = Runner::new(Arc::clone(&self.workshop), Arc::clone(&assignment), machine, wished);
        let (task, events) = (assignment.id, self.workshop.events.clone());
        self.runners.spawn(async move {
            // Whatever a runner left half done, the next one sees in the container itself.
            if AssertUnwindSafe(runner.run()).catch_unwind().await.is_err() {
                tokio::time::sleep(AFTER_PANIC).await;
                let _ = events.send(Event::Panicked(task)).await;
            }
        });
        let uses = &self.workshop.uses;
        let images = match &assignment.spec {
            Ok(spec) => spec.container.images().map(|image| uses.hold(Some(image.digest))).collect(),
            Err(_) => vec![uses.hold(None)],
        };
        self.tasks.insert(assignment.id, Entry { assignment, record, wish, ended, _images: images });
    }

    /// A runner panicked: another one goes on, so that the task is neither forgotten nor in the way of others.
    pub(super) fn on_panicked(&mut self, task: TaskId) {
        let Some(entry) = self.tasks.remove(&task) else { return };
        error!(%task, "what runs a task panicked, which is a bug, and is begun again");
        let dropped = entry.wish.borrow().dropped;
        self.begin(entry.assignment, entry.record, None);
        if dropped {
            self.drop_task(task);
        }
    }

    pub(super) fn drop_task(&mut self, task: TaskId) {
        if let Some(found) = self.strays.remove(&task) {
            let status = TaskStatus {
                state: TaskState::Accepted,
                since: self.workshop.now(),
                ..TaskStatus::default()
            };
            let record = TaskRecord {
                desired: DesiredState::Remove,
                status,
                acknowledged: false,
                history: History::default(),
            };
            self.begin(Arc::new(Assignment::unknown(task)), record, Some(found));
            self.stray_images.remove(&task);
        }
        if let Some(entry) = self.tasks.get_mut(&task) {
            entry.record.desired = DesiredState::Remove;
            self.outgoing.forget(task);
            self.journal.put_record(task, &entry.record);
            entry.wish.send_modify(|wish| {
                wish.desired = DesiredState::Remove;
                wish.dropped = true;
            });
        }
    }

    /// Waits for what still runs and should not.
    fn settle(&mut self) -> oneshot::Receiver<()> {
        let stale = self.tasks.iter().filter(|(_, entry)| {
            entry.record.desired > DesiredState::Running && !entry.record.status.state.is_terminal()
        });
        let stale: BTreeSet<TaskId> = stale.map(|(task, _)| *task).collect();
        let (done, settled) = oneshot::channel();
        self.settling = Some((stale, done));
        self.check_settled();
        settled
    }

    fn check_settled(&mut self) {
        if let Some((_, done)) = self.settling.take_if(|(stale, _)| stale.is_empty()) {
            // The session may be over.
            let _ = done.send(());
        }
    }

    pub(super) fn stopped(&mut self, task: TaskId) {
        if let Some((stale, _)) = &mut self.settling {
            stale.remove(&task);
        }
        self.check_settled();
    }
}

fn stray_grace(stray: Option<&Found>) -> Duration {
    let label = stray.and_then(|found| found.labels.get(LABEL_STOP_GRACE));
    label.and_then(|millis| millis.parse().ok()).map_or(DEFAULT_STOP_GRACE, Duration::from_millis)
}
