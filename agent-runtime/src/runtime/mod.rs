//! The runtime: creates containers, talks to their supervisors, and remembers how they ended.
//!
//! - [`create`]: making a container, and undoing a half-made one.
//! - [`supervisor`]: the conversation with one supervisor.
//! - [`recover`]: finding containers again after a restart.
//! - [`watch`]: the thread that sees supervisors end.

mod create;
mod recover;
mod supervisor;
mod watch;

use crate::cgroup::{Cgroups, Host, Stats};
use crate::directory::ContainerDirectory;
use crate::error::{IoContext, RuntimeError};
use crate::exec::{ExecResult, ExecSpec};
use crate::id::ContainerId;
use crate::program::Program;
use crate::spec::ContainerSpec;
use crate::status::{self, Exit, Status};
use coracle_runtime_protocol::{ExitRecord, Outcome, Reply, Request};
use rustix::fd::{AsFd, OwnedFd};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a killed container may take to be gone before its supervisor is killed too.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// Where the runtime keeps things.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// Durable directory, made with mode 0700: writable layers, logs, locks, exit records.
    pub state_dir: PathBuf,
    /// Directory that a reboot empties (a tmpfs), made with mode 0700: control sockets.
    pub run_dir: PathBuf,
    /// Cgroup below which all containers are, relative to the root of each hierarchy, such as `coracle/node-1`.
    pub cgroup_parent: String,
    /// How long setting up a container may take before it is given up.
    pub setup_timeout: Duration,
    /// Folders with CDI files; of two files with the same device the one in the later folder counts.
    pub cdi_folders: Vec<PathBuf>,
}

impl RuntimeConfig {
    /// A configuration with the default time limit of one minute, and the folders that the CDI specification names.
    #[must_use]
    pub fn new(state_dir: PathBuf, run_dir: PathBuf, cgroup_parent: String) -> Self {
        let cdi_folders = ["/etc/cdi", "/var/run/cdi"].map(PathBuf::from).to_vec();
        Self { state_dir, run_dir, cgroup_parent, setup_timeout: Duration::from_secs(60), cdi_folders }
    }
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerSummary {
    /// Name.
    pub id: ContainerId,
    /// State.
    pub status: Status,
    /// As given at creation.
    pub labels: BTreeMap<String, String>,
    /// Directory of the log, for [`crate::log::LogReader`].
    pub log_directory: PathBuf,
}

/// Runs containers below one directory and one cgroup. Only one runtime may be open on them at a time.
///
/// Dropping it leaves all containers running.
#[derive(Debug)]
pub struct Runtime {
    shared: Arc<Shared>,
    watcher: watch::Watcher,
}

type Subscriber = Box<dyn Fn(&ContainerId, &Exit) + Send>;

/// What the calls and the watching thread share.
struct Shared {
    config: RuntimeConfig,
    cgroups: Cgroups,
    program: Program,
    boot_id: String,
    host_masks: Vec<String>,
    containers: Mutex<HashMap<ContainerId, Entry>>,
    /// Signalled at each change of a status.
    changed: Condvar,
    subscribers: Mutex<Vec<Subscriber>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("config", &self.config).finish_non_exhaustive()
    }
}

/// A known container.
#[derive(Clone, Debug)]
struct Entry {
    status: Status,
    /// The living supervisor.
    supervisor: Option<Arc<OwnedFd>>,
    labels: BTreeMap<String, String>,
    log_directory: PathBuf,
}

/// A panic elsewhere leaves plain data behind, which is safe to go on with.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Runtime {
    /// Opens the directories, makes the cgroups, and finds the containers of earlier runs: living ones are adopted,
    /// the ends of others are read or, if nobody saw them, recorded as lost. Nothing that runs is disturbed.
    ///
    /// # Errors
    /// The directories or cgroups cannot be made or read.
    pub fn open(config: RuntimeConfig) -> Result<Self, RuntimeError> {
        for directory in [&config.state_dir, &config.run_dir] {
            DirBuilder::new().recursive(true).mode(0o700).create(directory).doing("creating", directory)?;
            let private = Permissions::from_mode(0o700);
            std::fs::set_permissions(directory, private).doing("changing the mode of", directory)?;
        }
        let cgroups = Cgroups::open(Host::detect()?, &config.cgroup_parent)?;
        let shared = Arc::new(Shared {
            cgroups,
            program: Program::load()?,
            boot_id: crate::check::boot_id()?,
            host_masks: crate::check::thermal_paths(),
            containers: Mutex::new(HashMap::new()),
            changed: Condvar::new(),
            subscribers: Mutex::new(Vec::new()),
            config,
        });
        let watcher = watch::Watcher::start(Arc::clone(&shared))?;
        let runtime = Self { shared, watcher };
        runtime.recover()?;
        Ok(runtime)
    }

    /// Sets a container up without starting it.
    ///
    /// # Errors
    /// The specification is refused, or a step failed; nothing is left then. See [`RuntimeError::is_rejection`].
    pub fn create(&self, id: &ContainerId, spec: &ContainerSpec) -> Result<(), RuntimeError> {
        self.make(id, spec, false).map(drop)
    }

    /// Sets a container up and starts it, in one exchange with its supervisor.
    ///
    /// # Errors
    /// As [`Runtime::create`]; also when the program cannot be executed. Nothing is left then.
    pub fn run(&self, id: &ContainerId, spec: &ContainerSpec) -> Result<Status, RuntimeError> {
        self.make(id, spec, true)
    }

    /// Executes the program of a created container. Starting a running one again changes nothing.
    ///
    /// # Errors
    /// The program cannot be executed (the container has then exited), or the container is not created.
    pub fn start(&self, id: &ContainerId) -> Result<Status, RuntimeError> {
        let status = self.status(id)?;
        match &status {
            Status::Running { .. } => return Ok(status),
            Status::Created => {}
            other => return Err(wrong_state(id, other, "started")),
        }
        coracle_crash_point::crash_point!("container.before-start");
        match supervisor::ask(id, &self.shared.directory(id), &Request::Start)? {
            Reply::Started { started_at } => {
                coracle_crash_point::crash_point!("container.after-start");
                Ok(self.shared.set_running(id, started_at))
            }
            Reply::Failed(failure) => Err(RuntimeError::Setup { id: id.clone(), failure }),
            Reply::Done | Reply::Executed(_) => {
                Err(RuntimeError::Supervisor { id: id.clone(), why: "it gave no start time".into() })
            }
        }
    }

    /// Sends a signal (by number, 1 to 64) to the container's process 1.
    ///
    /// # Errors
    /// The container is not alive, or the number is no signal.
    pub fn signal(&self, id: &ContainerId, signal: i32) -> Result<(), RuntimeError> {
        if !(1..=64).contains(&signal) {
            let why = "signals have the numbers 1 to 64".into();
            return Err(RuntimeError::InvalidSpec { field: "signal", value: signal.to_string(), why });
        }
        let status = self.status(id)?;
        if !matches!(status, Status::Running { .. } | Status::Created) {
            return Err(wrong_state(id, &status, "signalled"));
        }
        let directory = self.shared.directory(id);
        // The supervisor may be waiting for a slow disk to take the log, while the time in which the program may stop runs out.
        match self.shared.signal_directly(id, signal) {
            Ok(()) => return Ok(()),
            Err(error) if !directory.has_control() => return Err(error),
            Err(_) => {}
        }
        match supervisor::ask(id, &directory, &Request::Signal { number: signal })? {
            Reply::Failed(failure) => {
                Err(RuntimeError::Supervisor { id: id.clone(), why: failure.to_string() })
            }
            Reply::Done | Reply::Started { .. } | Reply::Executed(_) => Ok(()),
        }
    }

    /// Runs another program in a running container, with the container's restrictions, and waits for its end. It is killed
    /// when its time is up, when the container ends, and when this process ends, so that a caller may simply ask again.
    ///
    /// # Errors
    /// The container does not run, or the program could not be executed (see [`RuntimeError::Setup`]).
    pub fn exec(&self, id: &ContainerId, spec: &ExecSpec) -> Result<ExecResult, RuntimeError> {
        let request = Request::Exec(spec.request()?);
        match self.status(id)? {
            Status::Running { .. } => {}
            other => return Err(wrong_state(id, &other, "entered")),
        }
        match supervisor::ask_once(id, &self.shared.directory(id), &request, spec.timeout)? {
            Reply::Executed(executed) => Ok(executed.into()),
            Reply::Failed(failure) => Err(RuntimeError::Setup { id: id.clone(), failure }),
            Reply::Done | Reply::Started { .. } => {
                Err(RuntimeError::Supervisor { id: id.clone(), why: "it gave no result".into() })
            }
        }
    }

    /// Kills every process of the container. The end is seen like any other; killing a dead one does nothing.
    ///
    /// # Errors
    /// The container is unknown, or processes are left.
    pub fn kill(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        self.status(id)?;
        self.shared.cgroups.kill(id)
    }

    /// The container's state, from memory.
    ///
    /// # Errors
    /// The container is unknown.
    pub fn status(&self, id: &ContainerId) -> Result<Status, RuntimeError> {
        let containers = locked(&self.shared.containers);
        containers.get(id).map(|entry| entry.status.clone()).ok_or_else(|| RuntimeError::NotFound(id.clone()))
    }

    /// State, labels and log directory of one container.
    ///
    /// # Errors
    /// The container is unknown.
    pub fn inspect(&self, id: &ContainerId) -> Result<ContainerSummary, RuntimeError> {
        let containers = locked(&self.shared.containers);
        containers.get(id).map(|entry| entry.summary(id)).ok_or_else(|| RuntimeError::NotFound(id.clone()))
    }

    /// All containers, by name.
    #[must_use]
    pub fn list(&self) -> Vec<ContainerSummary> {
        let containers = locked(&self.shared.containers);
        let mut all: Vec<ContainerSummary> = containers.iter().map(|(id, entry)| entry.summary(id)).collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    /// Waits for the end, at most for `timeout`. `None` means that the container is still alive.
    ///
    /// # Errors
    /// The container is unknown, or was deleted meanwhile.
    pub fn wait(&self, id: &ContainerId, timeout: Option<Duration>) -> Result<Option<Exit>, RuntimeError> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let mut containers = locked(&self.shared.containers);
        loop {
            match containers.get(id) {
                None => return Err(RuntimeError::NotFound(id.clone())),
                Some(Entry { status: Status::Exited(exit), .. }) => return Ok(Some(exit.clone())),
                Some(_) => {}
            }
            let Some(deadline) = deadline else {
                containers = self.shared.changed.wait(containers).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            containers =
                self.shared.changed.wait_timeout(containers, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Calls `notify` at each end from now on, after the status is set: from the watching thread, or from a call that
    /// deletes a living container. It must be quick, such as sending into a channel, and must not call the runtime.
    pub fn subscribe(&self, notify: impl Fn(&ContainerId, &Exit) + Send + 'static) {
        locked(&self.shared.subscribers).push(Box::new(notify));
    }

    /// What the container uses now.
    ///
    /// # Errors
    /// The container is unknown or its cgroup is gone.
    pub fn stats(&self, id: &ContainerId) -> Result<Stats, RuntimeError> {
        self.status(id)?;
        self.shared.cgroups.stats(id)
    }

    /// Kills what is left of the container and removes all of it. Deleting an unknown container does nothing, so a
    /// caller may repeat this until it succeeds, also on half-made ones.
    ///
    /// # Errors
    /// Everything that could not be removed.
    pub fn delete(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        let mut errors = Vec::new();
        self.shared.remove(id, &mut errors);
        if errors.is_empty() {
            locked(&self.shared.containers).remove(id);
            self.shared.changed.notify_all();
            return Ok(());
        }
        Err(RuntimeError::Cleanup { id: id.clone(), errors })
    }

    /// Removes the cgroups that all containers shared, when no container is left. For uninstallation and tests.
    pub fn remove_shared_cgroups(&self) {
        self.shared.cgroups.remove_parent();
    }
}

impl Entry {
    fn summary(&self, id: &ContainerId) -> ContainerSummary {
        ContainerSummary {
            id: id.clone(),
            status: self.status.clone(),
            labels: self.labels.clone(),
            log_directory: self.log_directory.clone(),
        }
    }
}

impl Shared {
    fn directory(&self, id: &ContainerId) -> ContainerDirectory {
        ContainerDirectory::new(&self.config.state_dir, &self.config.run_dir, id)
    }

    fn log_directory(&self, id: &ContainerId, spec: &ContainerSpec) -> PathBuf {
        spec.log.directory.clone().unwrap_or_else(|| self.directory(id).state)
    }

    fn set_running(&self, id: &ContainerId, started_at: u64) -> Status {
        let pid = self.directory(id).read_state().map_or(0, |state| state.init_pid);
        let running = Status::Running { pid, started_at: status::time(started_at) };
        let mut containers = locked(&self.containers);
        let Some(entry) = containers.get_mut(id) else { return running };
        // The end may have been seen before this call got here.
        if entry.status == Status::Created {
            entry.status = running;
        }
        self.changed.notify_all();
        entry.status.clone()
    }

    /// Kills, waits and removes, whatever state the container is in.
    fn remove(&self, id: &ContainerId, errors: &mut Vec<RuntimeError>) {
        coracle_crash_point::crash_point!("container.delete.begun");
        let supervisor = locked(&self.containers).get(id).and_then(|entry| entry.supervisor.clone());
        if let Err(error) = self.cgroups.kill(id) {
            errors.push(error);
        }
        if let Some(supervisor) = supervisor {
            if !supervisor::wait_for_end(supervisor.as_fd(), END_PATIENCE) {
                let _ = crate::sys::kill(supervisor.as_fd());
                supervisor::wait_for_end(supervisor.as_fd(), END_PATIENCE);
            }
            self.ended(id, &supervisor);
        }
        // What lives, as on a dead network file system, is found by its files: without them the next daemon would not know
        // that it is there.
        if !errors.is_empty() {
            return;
        }
        self.wait_until_settled(id);
        coracle_crash_point::crash_point!("container.delete.after-kill");
        self.cgroups.remove(id, errors);
        coracle_crash_point::crash_point!("container.delete.after-cgroup");
        self.directory(id).remove(errors);
    }

    /// The watcher may be about to read the exit record; it must not find it removed.
    fn wait_until_settled(&self, id: &ContainerId) {
        let deadline = Instant::now() + END_PATIENCE;
        let mut containers = locked(&self.containers);
        while let Some(Entry { status: Status::Created | Status::Running { .. }, .. }) = containers.get(id) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            containers =
                self.changed.wait_timeout(containers, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What to say about a container whose supervisor is gone: its record, or that nobody saw the end. In the latter
    /// case everything in its cgroup is killed first, so that "exited" is true.
    fn settle(&self, id: &ContainerId, why: &str) -> ExitRecord {
        let directory = self.directory(id);
        let unreadable = match directory.read_exit() {
            Ok(Some(record)) => return record,
            Ok(None) => None,
            Err(error) => Some(format!("the record of its end cannot be read: {error}")),
        };
        if let Err(error) = self.cgroups.kill(id) {
            tracing::error!(container = %id, %error, "processes of a container without supervisor could not be killed");
        }
        let record = ExitRecord {
            outcome: Outcome::Lost { reason: unreadable.clone().unwrap_or_else(|| why.to_owned()) },
            oom_killed: false,
            started_at: directory.read_state().and_then(|state| state.started_at),
            finished_at: status::now(),
        };
        // A record that is there is never replaced by one that says less; the next daemon tries to read it again.
        if let Some(why) = unreadable {
            tracing::error!(container = %id, "{why}");
        } else if let Err(error) = directory.write_exit(&record) {
            tracing::error!(container = %id, %error, "the end of a container could not be recorded");
        }
        record
    }
}

fn wrong_state(id: &ContainerId, status: &Status, wanted: &'static str) -> RuntimeError {
    let state = match status {
        Status::Unknown => "half-made",
        Status::Created => "created",
        Status::Running { .. } => "running",
        Status::Exited(_) => "over",
    };
    RuntimeError::WrongState { id: id.clone(), state, wanted }
}

/// Whether something is at this path.
fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
