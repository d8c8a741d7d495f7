//! What a session has to do with volumes: the manager is told of them, and what it asks is done and answered.
//!
//! All of it ends with the session. What was begun on the disk then ends by itself: whole, or not at all.

mod archive;
mod problem;
mod report;

use std::sync::Arc;
use std::time::Duration;

use coracle_pki::SwappableIdentity;
use coracle_proto::v1;
use coracle_proto::v1::agent_message::Message as Up;
use coracle_proto::v1::volume_answer::Result as Answer;
use coracle_proto::v1::volume_request::Operation;
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::warn;

use self::problem::{not_known, problem, too_many};
use self::report::Report;
use crate::task::runner::blocking;
use crate::volume::{VolumeError, VolumeInfo, VolumeStore};

/// Requests under way at a time.
const REQUESTS: usize = 64;
/// Archives read or written at a time: each holds a thread and keeps the disk busy.
const ARCHIVES: usize = 4;
/// How long a volume is measured.
const MEASURE: Duration = Duration::from_secs(10);
/// Between two reports of changes.
const REPORT_PAUSE: Duration = Duration::from_millis(100);

/// The manager of a session, as this module needs it.
#[derive(Clone)]
pub(super) struct Manager {
    /// The session's stream.
    pub(super) up: mpsc::Sender<v1::AgentMessage>,
    /// For connections of their own.
    pub(super) address: String,
    pub(super) identity: SwappableIdentity,
}

/// The volumes of this node in one session; dropping it ends everything.
pub(super) struct Volumes {
    shared: Arc<Shared>,
    work: JoinSet<()>,
    _stop: DropGuard,
}

struct Shared {
    store: VolumeStore,
    manager: Manager,
    report: Mutex<Report>,
    requests: Arc<Semaphore>,
    archives: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Volumes {
    /// Begins to tell the manager.
    pub(super) fn begin(store: VolumeStore, manager: Manager) -> Self {
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            store,
            manager,
            report: Mutex::default(),
            requests: Arc::new(Semaphore::new(REQUESTS)),
            archives: Arc::new(Semaphore::new(ARCHIVES)),
            stop: stop.clone(),
        });
        let mut work = JoinSet::new();
        work.spawn(Arc::clone(&shared).keep_told());
        Self { shared, work, _stop: stop.drop_guard() }
    }

    /// Does what the manager asks, beside everything else.
    pub(super) fn serve(&mut self, request: v1::VolumeRequest) {
        while self.work.try_join_next().is_some() {}
        self.work.spawn(Arc::clone(&self.shared).serve(request));
    }
}

impl Shared {
    async fn keep_told(self: Arc<Self>) {
        let mut changes = self.store.changes();
        loop {
            changes.mark_unchanged();
            self.tell().await;
            tokio::time::sleep(REPORT_PAUSE).await;
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Tells what changed since the last time.
    async fn tell(&self) {
        let mut report = self.report.lock().await;
        for message in report.difference(self.store.list()) {
            self.send(Up::Volumes(message)).await;
        }
    }

    /// A session that is over is noticed by its other half.
    async fn send(&self, message: Up) {
        let _ = self.manager.up.send(v1::AgentMessage { message: Some(message) }).await;
    }

    async fn serve(self: Arc<Self>, request: v1::VolumeRequest) {
        let v1::VolumeRequest { id, operation } = request;
        let answer = match Arc::clone(&self.requests).try_acquire_owned() {
            Ok(_place) => self.answer(&id, operation).await,
            Err(_) => Some(Answer::Problem(too_many("requests about volumes", REQUESTS))),
        };
        let Some(result) = answer else { return };
        // Whoever asked sees what was done in the list, too: the list goes first.
        self.tell().await;
        self.send(Up::VolumeAnswer(v1::VolumeAnswer { id, result: Some(result) })).await;
    }

    /// Nothing when the answer is given otherwise.
    async fn answer(&self, id: &str, operation: Option<Operation>) -> Option<Answer> {
        let Some(operation) = operation else { return Some(Answer::Problem(not_known())) };
        let done = match operation {
            Operation::Create(create) => self.create(create).await,
            Operation::Inspect(inspect) => self.inspect(inspect.name).await,
            Operation::Remove(remove) => {
                let name = remove.name;
                self.on_disk(move |store| store.remove(&name).map(|()| Answer::Removed(v1::VolumeRemoved {})))
                    .await
            }
            Operation::Prune(prune) => self.prune(prune).await,
            Operation::Read(read) => {
                let Ok(_place) = self.archives.try_acquire() else { return Some(Answer::Problem(busy())) };
                return archive::publish(&self.store, &self.manager, id, read.name, &self.stop)
                    .await
                    .map(Answer::Problem);
            }
            Operation::Write(write) => {
                let Ok(_place) = self.archives.try_acquire() else { return Some(Answer::Problem(busy())) };
                return Some(match archive::take(&self.store, &self.manager, id, write).await {
                    Ok(written) => Answer::Written(written),
                    Err(problem) => Answer::Problem(problem),
                });
            }
        };
        Some(done.unwrap_or_else(|error| {
            if !matches!(error, VolumeError::NotFound(_) | VolumeError::InUse { .. } | VolumeError::Name(_)) {
                warn!(error = %coracle_daemon::ErrorChain(&error), "what was asked of a volume was not done");
            }
            Answer::Problem(problem(&error))
        }))
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&VolumeStore) -> Result<T, VolumeError> + Send + 'static,
    ) -> Result<T, VolumeError> {
        let store = self.store.clone();
        // A panic in there was logged.
        blocking(move || work(&store)).await.unwrap_or_else(|| Err(VolumeError::Stopped(String::new())))
    }

    async fn create(&self, create: v1::CreateVolume) -> Result<Answer, VolumeError> {
        let v1::CreateVolume { name, labels } = create;
        let labels = labels.into_iter().collect();
        self.on_disk(move |store| {
            let existed = !name.is_empty() && store.get(&name).is_ok();
            let made =
                if name.is_empty() { store.create_unnamed(&labels) } else { store.create(&name, &labels) }?;
            Ok(Answer::Created(v1::VolumeCreated { volume: Some(message(&made)), existed }))
        })
        .await
    }

    async fn inspect(&self, name: String) -> Result<Answer, VolumeError> {
        let stop = self.stop.child_token();
        // Ends the measuring also when the session ends and this is dropped.
        let _ended = stop.clone().drop_guard();
        let limit = stop.clone();
        let measured = self.on_disk(move |store| {
            let info = store.get(&name)?;
            let size = store.size(&name, &stop);
            Ok((info, store.folder(&name), size))
        });
        let mut measured = std::pin::pin!(measured);
        let (info, folder, size) = match tokio::time::timeout(MEASURE, measured.as_mut()).await {
            Ok(measured) => measured?,
            Err(_) => {
                limit.cancel();
                measured.await?
            }
        };
        let (size, size_unknown) = match size {
            Ok(size) => (Some(size), String::new()),
            Err(VolumeError::Stopped(_)) => {
                (None, format!("measuring it takes longer than {} s", MEASURE.as_secs()))
            }
            Err(error) => (None, coracle_daemon::ErrorChain(&error).to_string()),
        };
        Ok(Answer::Inspected(v1::VolumeDetail {
            volume: Some(message(&info)),
            mountpoint: folder.display().to_string(),
            tasks: info.users.iter().map(|user| user.task.to_string()).collect(),
            size: size.map(|size| size.bytes),
            inodes: size.map(|size| size.inodes),
            size_unknown,
        }))
    }

    async fn prune(&self, prune: v1::PruneVolumes) -> Result<Answer, VolumeError> {
        let stop = self.stop.clone();
        self.on_disk(move |store| {
            let pruned = store.prune(|volume| is_chosen(volume, &prune), &stop);
            if let Some(error) = &pruned.failure {
                warn!(error = %coracle_daemon::ErrorChain(error), removed = pruned.names.len(), "a prune ended early");
            }
            let problem = pruned.failure.as_ref().map(problem);
            Ok(Answer::Pruned(v1::VolumesPruned { names: pruned.names, freed: pruned.bytes, problem }))
        })
        .await
    }
}

fn busy() -> v1::VolumeProblem {
    too_many("volumes are saved and restored", ARCHIVES)
}

/// Named ones go only when all are to go; what belongs to a task goes with its container.
fn is_chosen(volume: &VolumeInfo, prune: &v1::PruneVolumes) -> bool {
    let holds = |filter: &v1::VolumeLabelFilter| {
        let value = volume.labels.get(&filter.key);
        value.is_some_and(|value| filter.value.as_ref().is_none_or(|wanted| wanted == value)) != filter.absent
    };
    (prune.all || volume.anonymous) && prune.labels.iter().all(holds)
}

fn message(volume: &VolumeInfo) -> v1::Volume {
    v1::Volume {
        name: volume.name.clone(),
        labels: volume.labels.clone().into_iter().collect(),
        created_at: volume.created_at.as_nanos(),
        used_by: u32::try_from(volume.users.len()).unwrap_or(u32::MAX),
        anonymous: volume.anonymous,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use coracle_model::time::Timestamp;

    use super::*;

    fn volume(anonymous: bool, labels: &[(&str, &str)]) -> VolumeInfo {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        VolumeInfo {
            name: "v".to_owned(),
            labels: labels.collect::<BTreeMap<_, _>>(),
            created_at: Timestamp::EPOCH,
            anonymous,
            owner: None,
            users: Vec::new(),
        }
    }

    #[test]
    fn named_volumes_are_spared_unless_all_are_meant() {
        let prune = |all| v1::PruneVolumes { all, labels: Vec::new() };
        assert!(!is_chosen(&volume(false, &[]), &prune(false)));
        assert!(is_chosen(&volume(false, &[]), &prune(true)));
        assert!(is_chosen(&volume(true, &[]), &prune(false)));
    }

    #[test]
    fn all_filters_must_hold() {
        let filter = |key: &str, value: Option<&str>, absent| v1::VolumeLabelFilter {
            key: key.to_owned(),
            value: value.map(str::to_owned),
            absent,
        };
        let chosen = |labels: &[(&str, &str)], filters: Vec<v1::VolumeLabelFilter>| {
            is_chosen(&volume(false, labels), &v1::PruneVolumes { all: true, labels: filters })
        };
        assert!(chosen(&[("a", "1")], vec![filter("a", None, false)]));
        assert!(chosen(&[("a", "1")], vec![filter("a", Some("1"), false)]));
        assert!(!chosen(&[("a", "1")], vec![filter("a", Some("2"), false)]));
        assert!(!chosen(&[], vec![filter("a", None, false)]));
        assert!(chosen(&[], vec![filter("a", None, true)]));
        assert!(!chosen(&[("a", "1")], vec![filter("a", None, true)]));
        assert!(chosen(&[("a", "1")], vec![filter("a", Some("2"), true)]));
        assert!(!chosen(&[("a", "1")], vec![filter("a", None, false), filter("b", None, false)]));
    }
}
