//! Where everything about this node's tasks meets: what managers want, what runners say, what the journal keeps.
//!
//! One task owns a [`Desk`]. It is woken by [`Event`]s and by its own clock, never waits for anything but them, and
//! tells the runners through their wishes, the session through the outbox, everybody else through watches.
//! When the session is gone for [`OFFLINE_AFTER`] it tells the runners that they are on their own.

mod assigned;
mod kept_logs;
mod managers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use coracle_model::id::TaskId;
use coracle_model::task::{Exit, TaskStatus};
use coracle_pki::TicketPublicKey;
use coracle_proto::v1;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::adapters::containers::Found;
use crate::assignments::{Assignment, AssignmentSet, OutOfStep};
use crate::image_use::ImageUse;
use crate::journal::{Contents, Journal, KeptLog, StoredTask, TaskRecord};
use crate::logs::LogQuery;
use crate::outbox::Outgoing;
use crate::task::fsm::Reality;
use crate::task::restart::History;
use crate::task::runner::{Wish, Workshop};

/// How long no manager may be reached before tasks are restarted here.
pub(crate) const OFFLINE_AFTER: Duration = Duration::from_secs(2);
/// How often logs are looked through for those to delete.
const RETENTION_PERIOD: Duration = Duration::from_secs(600);

/// What a runner says of its task.
#[derive(Debug)]
pub(crate) struct StatusEvent {
    pub(crate) task: TaskId,
    pub(crate) status: TaskStatus,
    pub(crate) history: History,
}

/// What came of assignments.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) sequence: u64,
    /// For a complete set: fires when nothing runs any more that should not.
    pub(crate) settled: Option<oneshot::Receiver<()>>,
}

/// What the desk hears.
#[derive(Debug)]
pub(crate) enum Event {
    Status(StatusEvent),
    /// A dropped task has left nothing but its log.
    Gone(TaskId),
    /// A container of which the journal knows nothing has ended.
    StrayEnded(TaskId, Exit),
    /// What ran a task has panicked.
    Panicked(TaskId),
    /// A session is about to open and wants to say what is here.
    Hello(oneshot::Sender<Vec<v1::TaskReport>>),
    Welcome(Box<v1::Welcome>),
    Closed,
    /// The managers agree that this node was removed from the cluster.
    Removed,
    Node(v1::NodeUpdate),
    Managers(v1::ManagerList),
    Assignments(v1::Assignments, oneshot::Sender<Result<Applied, OutOfStep>>),
    Acknowledged(BTreeMap<TaskId, TaskStatus>),
    Logs(Box<v1::LogSubscription>, oneshot::Sender<Vec<LogQuery>>),
    /// Stop and delete everything, killing what has not ended at the deadline.
    StopAll(Duration, oneshot::Sender<()>),
}

/// What others see of the desk.
#[derive(Debug)]
pub(crate) struct Views {
    pub(crate) running: watch::Sender<u32>,
    pub(crate) managers: watch::Sender<Vec<String>>,
    pub(crate) node: watch::Sender<Option<crate::agent::NodeUpdate>>,
    pub(crate) ticket_key: watch::Sender<Option<TicketPublicKey>>,
}

struct Entry {
    assignment: Arc<Assignment>,
    record: TaskRecord,
    wish: watch::Sender<Wish>,
    /// Cancelled when it has ended.
    ended: CancellationToken,
    /// Until its container is deleted.
    _images: Vec<ImageUse>,
}

/// See the module.
pub(crate) struct Desk {
    workshop: Arc<Workshop>,
    journal: Arc<Journal>,
    outgoing: Arc<Outgoing>,
    views: Views,
    runners: TaskTracker,
    tasks: BTreeMap<TaskId, Entry>,
    /// Containers of which the journal knows nothing: they stay until the managers say what they are.
    strays: BTreeMap<TaskId, Found>,
    /// Of containers whose image is not known.
    stray_images: BTreeMap<TaskId, ImageUse>,
    kept_logs: BTreeMap<TaskId, KeptLog>,
    set: AssignmentSet,
    offline: bool,
    offline_at: Option<Instant>,
    /// Tasks that must have stopped before the node says that it is in step.
    settling: Option<(BTreeSet<TaskId>, oneshot::Sender<()>)>,
    leaving: Option<Leaving>,
    /// The node leaves: nothing new is begun.
    left: bool,
}

struct Leaving {
    kill_at: Option<Instant>,
    done: oneshot::Sender<()>,
}

impl Desk {
    /// Goes on with what journal and runtime know.
    pub(crate) fn new(
        workshop: Arc<Workshop>,
        journal: Arc<Journal>,
        outgoing: Arc<Outgoing>,
        views: Views,
        contents: Contents,
        found: Vec<Found>,
    ) -> Self {
        let strays = found.into_iter().filter(|found| !contents.tasks.contains_key(&found.task));
        let strays: BTreeMap<TaskId, Found> = strays.map(|found| (found.task, found)).collect();
        let mut desk = Self {
            stray_images: strays.keys().map(|task| (*task, workshop.uses.hold(None))).collect(),
            strays,
            workshop,
            journal,
            outgoing,
            views,
            runners: TaskTracker::new(),
            tasks: BTreeMap::new(),
            kept_logs: contents.kept_logs,
            set: AssignmentSet::default(),
            offline: false,
            offline_at: Some(Instant::now() + OFFLINE_AFTER),
            settling: None,
            leaving: None,
            left: false,
        };
        for (task, StoredTask { assigned, record }) in contents.tasks {
            if !record.acknowledged {
                desk.outgoing.put(task, record.status.clone());
            }
            desk.begin(Arc::new(Assignment::from_wire(task, assigned)), record, None);
        }
        if !desk.strays.is_empty() {
            warn!(
                count = desk.strays.len(),
                "containers run that the journal does not know: they are kept until a manager says what they are"
            );
        }
        desk.watch_strays();
        desk.count_running();
        desk
    }

    fn watch_strays(&self) {
        let running = self.strays.values().filter(|found| matches!(found.reality, Reality::Running { .. }));
        for task in running.map(|found| found.task) {
            let (ended, events) = (self.workshop.containers.wait(task), self.workshop.events.clone());
            // Ends with the container or with the process.
            tokio::spawn(async move {
                let _ = events.send(Event::StrayEnded(task, ended.await)).await;
            });
        }
    }

    fn on_stray_ended(&mut self, task: TaskId, exit: Exit) {
        // By now a manager may have said what it is: then its runner watches it.
        if let Some(found) = self.strays.get_mut(&task) {
            found.reality = Reality::Ended { exit };
            self.count_running();
        }
    }

    /// Hears events until `stop`; then waits for the runners, whose containers go on.
    pub(crate) async fn run(mut self, mut events: mpsc::Receiver<Event>, stop: CancellationToken) {
        let mut retention = tokio::time::interval(RETENTION_PERIOD);
        loop {
            let wake = self
                .offline_at
                .into_iter()
                .chain(self.leaving.as_ref().and_then(|leaving| leaving.kill_at))
                .min();
            // All arms are cancel-safe.
            tokio::select! {
                () = stop.cancelled() => break,
                event = events.recv() => match event {
                    Some(event) => self.handle(event),
                    None => break,
                },
                () = sleep_until(wake) => self.on_time().await,
                _ = retention.tick() => self.delete_old_logs(),
            }
        }
        // What runners have said by now is for the journal: the next daemon goes on from there.
        while let Ok(event) = events.try_recv() {
            if let Event::Status(event) = event {
                self.on_status(event);
            }
        }
        // Containers go on, and so do their images.
        self.workshop.uses.close();
        // The runners end when their wishes do.
        self.tasks.clear();
        self.runners.close();
        drop(events);
        self.runners.wait().await;
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Status(event) => self.on_status(event),
            Event::Gone(task) => self.on_gone(task),
            Event::StrayEnded(task, exit) => self.on_stray_ended(task, exit),
            Event::Panicked(task) => self.on_panicked(task),
            Event::Hello(reply) => {
                self.set.begin_session();
                // A session that gave up needs no answer.
                let _ = reply.send(self.reports());
            }
            Event::Welcome(welcome) => self.on_welcome(*welcome),
            Event::Closed => {
                self.settling = None;
                let at = Instant::now() + OFFLINE_AFTER;
                self.offline_at = (!self.offline).then_some(self.offline_at.unwrap_or(at));
            }
            Event::Removed => self.on_removed(),
            Event::Node(update) => self.on_node(&update),
            Event::Managers(list) => self.on_managers(list),
            Event::Assignments(message, reply) => {
                let _ = reply.send(self.on_assignments(message));
            }
            Event::Acknowledged(statuses) => self.on_acknowledged(&statuses),
            Event::Logs(subscription, reply) => {
                let _ = reply.send(self.log_queries(&subscription));
            }
            Event::StopAll(deadline, done) => self.on_stop_all(deadline, done),
        }
    }

    fn on_status(&mut self, event: StatusEvent) {
        let Some(entry) = self.tasks.get_mut(&event.task) else { return };
        let terminal = event.status.state.is_terminal();
        entry.record.status = event.status;
        entry.record.history = event.history;
        entry.record.acknowledged = false;
        let dropped = entry.wish.borrow().dropped;
        match (terminal, entry.ended.is_cancelled()) {
            (true, false) => entry.ended.cancel(),
            // It was started again on this node.
            (false, true) => entry.ended = CancellationToken::new(),
            _ => {}
        }
        self.journal.put_record(event.task, &entry.record);
        if !dropped {
            self.outgoing.put(event.task, entry.record.status.clone());
        }
        if terminal {
            self.stopped(event.task);
        }
        self.count_running();
    }

    fn on_acknowledged(&mut self, statuses: &BTreeMap<TaskId, TaskStatus>) {
        for (task, status) in statuses {
            let Some(entry) = self.tasks.get_mut(task) else { continue };
            if status.state.is_terminal() && entry.record.status == *status {
                entry.record.acknowledged = true;
                self.journal.put_record(*task, &entry.record);
                entry.wish.send_modify(|wish| wish.acknowledged = Some(status.since));
            }
        }
    }

    fn on_gone(&mut self, task: TaskId) {
        let Some(entry) = self.tasks.remove(&task) else { return };
        self.outgoing.forget(task);
        self.journal.remove_task(task);
        let kept = KeptLog {
            service: entry.assignment.service,
            slot: entry.assignment.slot,
            ended_at: self.workshop.now(),
        };
        self.journal.put_kept_log(task, &kept);
        self.kept_logs.insert(task, kept);
        self.delete_old_logs();
        self.stopped(task);
        self.count_running();
        if self.tasks.is_empty()
            && let Some(leaving) = self.leaving.take()
        {
            let _ = leaving.done.send(());
        }
    }

    fn count_running(&self) {
        let of_tasks = self.tasks.values().filter(|entry| entry.record.status.pid != 0).count();
        let of_strays =
            self.strays.values().filter(|found| matches!(found.reality, Reality::Running { .. })).count();
        let count = u32::try_from(of_tasks + of_strays).unwrap_or(u32::MAX);
        self.views.running.send_if_modified(|known| std::mem::replace(known, count) != count);
    }

    fn on_stop_all(&mut self, deadline: Duration, done: oneshot::Sender<()>) {
        self.left = true;
        self.workshop.files.keep_only(&BTreeSet::new());
        self.drop_all();
        if self.tasks.is_empty() {
            let _ = done.send(());
            return;
        }
        self.leaving = Some(Leaving { kill_at: Some(Instant::now() + deadline), done });
    }

    fn on_removed(&mut self) {
        warn!(
            tasks = self.tasks.len() + self.strays.len(),
            "this node was removed from the cluster: what runs here is stopped; to run tasks again, let it leave and join"
        );
        self.workshop.files.keep_only(&BTreeSet::new());
        self.drop_all();
    }

    fn drop_all(&mut self) {
        let all: Vec<TaskId> = self.tasks.keys().chain(self.strays.keys()).copied().collect();
        for task in all {
            self.drop_task(task);
        }
    }

    async fn on_time(&mut self) {
        let now = Instant::now();
        if self.offline_at.is_some_and(|at| at <= now) {
            self.offline_at = None;
            self.set_offline(true);
        }
        let Some(leaving) =
            self.leaving.as_mut().filter(|leaving| leaving.kill_at.is_some_and(|at| at <= now))
        else {
            return;
        };
        leaving.kill_at = None;
        let (containers, tasks) =
            (Arc::clone(&self.workshop.containers), self.tasks.keys().copied().collect::<Vec<_>>());
        let killed = tokio::task::spawn_blocking(move || {
            for task in tasks {
                if let Err(error) = containers.kill(task) {
                    warn!(%task, %error, "container was not killed");
                }
            }
        });
        // A panic in there was logged.
        let _ = killed.await;
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
