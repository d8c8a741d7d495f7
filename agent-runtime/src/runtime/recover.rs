//! Finding containers again.
//!
//! The record lock that a supervisor holds on its `lock` file is the proof that it lives: the kernel releases it with
//! the process, and names the holder, so no stored process id is ever trusted. Declaring a container lost is done
//! while holding that lock, so a supervisor that was only just being started finds the record and gives up.

use super::{Entry, Runtime, Shared, exists, locked};
use crate::directory::ContainerDirectory;
use crate::error::{IoContext, RuntimeError};
use crate::id::ContainerId;
use crate::status::{self, Exit, Status};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::FlockOperation;
use rustix::process::{Flock, FlockType, Pid, PidfdFlags, fcntl_getlk, pidfd_open};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long to look at a lock that is neither held nor free.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

impl Runtime {
    /// Takes up every container on disk that is not known yet. [`Runtime::open`] has done this; doing it again
    /// changes nothing.
    ///
    /// # Errors
    /// The directories cannot be read.
    pub fn recover(&self) -> Result<(), RuntimeError> {
        let config = &self.shared.config;
        let mut ids = BTreeSet::new();
        for directory in [&config.state_dir, &config.run_dir] {
            collect_ids(directory, &mut ids)?;
        }
        for id in ids {
            if locked(&self.shared.containers).contains_key(&id) {
                continue;
            }
            let entry = self.shared.find(&id);
            let supervisor = entry.supervisor.clone();
            tracing::info!(container = %id, status = ?entry.status, "container found");
            locked(&self.shared.containers).insert(id.clone(), entry);
            if let Some(supervisor) = supervisor
                && let Err(error) = self.watcher.add(&id, supervisor)
            {
                // Not known, so that recovering again finds it again.
                locked(&self.shared.containers).remove(&id);
                return Err(error);
            }
        }
        Ok(())
    }
}

fn collect_ids(directory: &Path, ids: &mut BTreeSet<ContainerId>) -> Result<(), RuntimeError> {
    for entry in fs::read_dir(directory).doing("reading", directory)? {
        let entry = entry.doing("reading", directory)?;
        if let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            ids.insert(id);
        }
    }
    Ok(())
}

impl Shared {
    fn find(&self, id: &ContainerId) -> Entry {
        let directory = self.directory(id);
        let file = directory.read_file();
        let (status, supervisor) = match &file {
            Ok(None) => (Status::Unknown, None),
            Ok(Some(file)) => self.judge(id, &directory, file.boot_id == self.boot_id),
            Err(error) => {
                tracing::error!(container = %id, %error, "the description of a container cannot be read");
                // It cannot be told when it was made, but what lives was made during this boot.
                living(&directory).unwrap_or((Status::Unknown, None))
            }
        };
        let (labels, log_directory) = file
            .ok()
            .flatten()
            .map_or_else(|| (Default::default(), directory.state), |file| (file.labels, file.log_directory));
        Entry { status, supervisor, labels, log_directory }
    }

    fn judge(
        &self,
        id: &ContainerId,
        directory: &ContainerDirectory,
        same_boot: bool,
    ) -> (Status, Option<Arc<OwnedFd>>) {
        if let Ok(Some(record)) = directory.read_exit() {
            return (Status::Exited(record.into()), None);
        }
        let deadline = Instant::now() + LOCK_PATIENCE;
        let (why, _lock) = loop {
            if !same_boot {
                break ("the host restarted", None);
            }
            if let Some(living) = living(directory) {
                return living;
            }
            // Kept until the record is written.
            let lock = take_lock(directory);
            // A supervisor may have taken the lock, or let it go, between the two looks.
            if lock.is_some() || !exists(&directory.lock_path()) || Instant::now() > deadline {
                break ("its supervisor was killed while the daemon was away", lock);
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        (Status::Exited(Exit::from(self.settle(id, why))), None)
    }
}

/// The status of a container with a living supervisor, and that supervisor.
fn living(directory: &ContainerDirectory) -> Option<(Status, Option<Arc<OwnedFd>>)> {
    let supervisor = living_supervisor(directory)?;
    let status = match directory.read_state() {
        // Setting up goes on; without its report nobody can start it, so it has to be deleted.
        None => Status::Unknown,
        Some(state) => match state.started_at {
            None => Status::Created,
            Some(at) => Status::Running { pid: state.init_pid, started_at: status::time(at) },
        },
    };
    Some((status, Some(Arc::new(supervisor))))
}

impl Shared {
    /// Signals the init of a container without its supervisor's help. A number stands for that init as long as the
    /// process behind it is a child of the living supervisor, which alone could reap it.
    pub(super) fn signal_directly(&self, id: &ContainerId, signal: i32) -> Result<(), RuntimeError> {
        let failed = |why: &str| RuntimeError::Supervisor {
            id: id.clone(),
            why: format!("its control socket is gone, and {why}; kill the container instead"),
        };
        let directory = self.directory(id);
        let state = directory.read_state().ok_or_else(|| failed("its state cannot be read"))?;
        let lock = File::options().write(true).open(directory.lock_path());
        let supervisor = lock.ok().as_ref().and_then(holder).ok_or_else(|| failed("it has ended"))?;
        let pid = Pid::from_raw(state.init_pid).ok_or_else(|| failed("its state names no process"))?;
        let init = pidfd_open(pid, PidfdFlags::empty()).map_err(|_| failed("its init has ended"))?;
        if parent(pid) != Some(supervisor) {
            return Err(failed("its init has ended"));
        }
        crate::sys::send_signal(init.as_fd(), signal).map_err(|error| failed(&format!("signalling: {error}")))
    }
}

/// Field 4 of proc_pid_stat(5); the name in field 2 may contain anything.
fn parent(pid: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    Pid::from_raw(fields.split(' ').nth(1)?.parse().ok()?)
}

/// The process that holds the lock. It is looked up twice around opening the descriptor: if the same process still
/// holds the lock, the descriptor stands for it.
fn living_supervisor(directory: &ContainerDirectory) -> Option<OwnedFd> {
    let lock = File::options().write(true).open(directory.lock_path()).ok()?;
    let holder = holder(&lock)?;
    let process = pidfd_open(holder, PidfdFlags::empty()).ok()?;
    (self::holder(&lock) == Some(holder)).then_some(process)
}

fn holder(lock: &File) -> Option<Pid> {
    fcntl_getlk(lock, &Flock::from(FlockType::WriteLock)).ok()??.pid
}

fn take_lock(directory: &ContainerDirectory) -> Option<File> {
    let lock = File::options().write(true).open(directory.lock_path()).ok()?;
    rustix::fs::fcntl_lock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(lock)
}
