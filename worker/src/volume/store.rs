//! Which volumes there are; making and removing them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use coracle_daemon::Clock;
use coracle_image::tree::{TreeSize, measure};
use coracle_model::id::TaskId;
use coracle_model::time::Timestamp;
use coracle_model::volume::is_volume_name;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::VolumeError;
use super::disk::{Disk, Record, Scratch, io};
use super::usage::{Fill, filling};

/// Volumes of a node at most: each is in memory, and managers are told of all.
const VOLUMES: usize = 10_000;

/// A task that mounts a volume.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct VolumeUser {
    /// The task.
    pub task: TaskId,
    /// The name of its service; empty where it is not known.
    pub service: String,
}

impl fmt::Display for VolumeUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.service.as_str() {
            "" => write!(f, "task {}", self.task),
            service => write!(f, "task {} of service {service}", self.task),
        }
    }
}

/// A volume of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeInfo {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Nobody gave it a name.
    pub anonymous: bool,
    /// The task with whose container it goes.
    pub owner: Option<TaskId>,
    /// Tasks whose containers mount it and have not been deleted, also those that have ended.
    pub users: Vec<VolumeUser>,
}

/// What a prune removed.
#[derive(Debug, Default)]
pub struct Pruned {
    /// Names of the volumes.
    pub names: Vec<String>,
    /// Bytes of disk that they took, as far as that could be measured.
    pub bytes: u64,
    /// Why it ended before the last volume; the others are as they were.
    pub failure: Option<VolumeError>,
}

#[derive(Debug)]
pub(super) struct Known {
    pub(super) record: Record,
    unusable: Option<String>,
    pub(super) users: BTreeMap<TaskId, String>,
    pub(super) backups: usize,
}

#[derive(Debug)]
pub(super) struct Inner {
    disk: Disk,
    clock: Arc<dyn Clock>,
    known: Mutex<BTreeMap<String, Known>>,
    /// Names that somebody works on.
    pub(super) busy: Mutex<BTreeSet<String>>,
    pub(super) freed: Condvar,
    changes: watch::Sender<u64>,
}

/// The volumes of one node. Cheap to clone; all methods block, and may be called from several threads.
#[derive(Debug, Clone)]
pub struct VolumeStore(pub(super) Arc<Inner>);

impl VolumeStore {
    /// Opens the volumes in `directory`, making it when it is missing. What a crash has left half made is removed.
    ///
    /// # Errors
    /// If the folder cannot be used.
    pub fn open(directory: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Result<Self, VolumeError> {
        let disk = Disk::open(directory.into())?;
        let known = disk.stored()?.into_iter().map(|stored| {
            let known = Known {
                record: stored.record,
                unusable: stored.unusable,
                users: BTreeMap::new(),
                backups: 0,
            };
            (stored.name, known)
        });
        let known = Mutex::new(known.collect());
        let (busy, freed, changes) = (Mutex::default(), Condvar::new(), watch::Sender::new(0));
        Ok(Self(Arc::new(Inner { disk, clock, known, busy, freed, changes })))
    }

    /// Makes a volume; one that is there stays as it is, with its labels.
    ///
    /// # Errors
    /// If the name is none, there are too many, or the disk refuses.
    pub fn create(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<VolumeInfo, VolumeError> {
        self.create_as(name, labels, false)
    }

    /// Makes a volume under a name that nobody chose.
    ///
    /// # Errors
    /// As [`VolumeStore::create`].
    pub fn create_unnamed(&self, labels: &BTreeMap<String, String>) -> Result<VolumeInfo, VolumeError> {
        // As long as Docker's, so that nobody takes one for a name.
        let bytes: [u8; 32] = rand::random();
        let name: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.create_as(&name, labels, true)
    }

    fn create_as(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
        anonymous: bool,
    ) -> Result<VolumeInfo, VolumeError> {
        check_name(name)?;
        let _lock = self.lock(name);
        if !self.check_usable(name)? {
            let record = Record { labels: labels.clone(), created_at: self.now(), anonymous, owner: None };
            self.make(name, record, None)?;
        }
        self.get(name)
    }

    /// Every volume, by name.
    #[must_use]
    pub fn list(&self) -> Vec<VolumeInfo> {
        self.known().iter().map(|(name, known)| info(name, known)).collect()
    }

    /// One volume.
    ///
    /// # Errors
    /// If there is none.
    pub fn get(&self, name: &str) -> Result<VolumeInfo, VolumeError> {
        let known = self.known();
        let found = known.get(name).ok_or_else(|| VolumeError::NotFound(name.to_owned()))?;
        Ok(info(name, found))
    }

    /// The folder with what is in a volume of this name, whether there is one or not.
    #[must_use]
    pub fn folder(&self, name: &str) -> PathBuf {
        self.0.disk.data(name)
    }

    /// Counts every change of what [`VolumeStore::list`] says.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Measures what a volume takes of the disk, file by file: that may take long.
    ///
    /// # Errors
    /// If there is none, it cannot be read, or `stop` was cancelled.
    pub fn size(&self, name: &str, stop: &CancellationToken) -> Result<TreeSize, VolumeError> {
        self.get(name)?;
        let data = self.0.disk.data(name);
        let failed = |error| io("measuring", &data, error);
        let root = fs::File::open(&data).map_err(failed)?;
        let size = measure(root.as_fd(), &|| stop.is_cancelled()).map_err(failed)?;
        size.ok_or_else(|| VolumeError::Stopped(name.to_owned()))
    }

    /// Removes a volume and all that is in it.
    ///
    /// # Errors
    /// If there is none, it is in use or being backed up, or the disk refuses.
    pub fn remove(&self, name: &str) -> Result<(), VolumeError> {
        self.bury(name).map(drop)
    }

    /// Takes its name from a volume that nobody uses. Its content may be much: it goes when the answer is dropped, and by then
    /// nobody waits for it.
    pub(super) fn bury(&self, name: &str) -> Result<Option<Scratch>, VolumeError> {
        let grave = {
            let _lock = self.lock(name);
            self.check_free(name)?;
            let grave = self.0.disk.bury(name, true)?;
            self.known().remove(name);
            grave
        };
        self.changed();
        Ok(grave)
    }

    /// Removes all volumes that nobody uses and that are chosen. It ends when the disk refuses or `stop` is cancelled, and says
    /// what it had removed by then.
    #[must_use]
    pub fn prune(&self, is_chosen: impl Fn(&VolumeInfo) -> bool, stop: &CancellationToken) -> Pruned {
        let mut pruned = Pruned::default();
        for volume in self.list() {
            if !volume.users.is_empty() || !is_chosen(&volume) {
                continue;
            }
            if stop.is_cancelled() {
                return Pruned { failure: Some(VolumeError::Stopped(volume.name)), ..pruned };
            }
            let size = match self.size(&volume.name, stop) {
                Ok(size) => size,
                Err(error @ VolumeError::Stopped(_)) => return Pruned { failure: Some(error), ..pruned },
                Err(_) => TreeSize::default(),
            };
            match self.remove(&volume.name) {
                Ok(()) => {
                    pruned.bytes += size.bytes;
                    pruned.names.push(volume.name);
                }
                // Somebody was quicker.
                Err(
                    VolumeError::NotFound(_)
                    | VolumeError::InUse { .. }
                    | VolumeError::BackedUp(_)
                    | VolumeError::Unusable { .. },
                ) => {}
                Err(error) => return Pruned { failure: Some(error), ..pruned },
            }
        }
        pruned
    }

    /// Makes a volume that is not there; its name is locked.
    pub(super) fn make(&self, name: &str, record: Record, fill: Option<Fill<'_>>) -> Result<(), VolumeError> {
        if self.known().len() >= VOLUMES {
            return Err(VolumeError::TooMany(VOLUMES));
        }
        // One that goes with its container need not survive a loss of power.
        let durable = record.owner.is_none();
        let disk = &self.0.disk;
        let scratch = disk.scratch()?;
        let filled = match fill {
            Some(fill) => fill(&scratch.data()).map_err(|why| filling(name, why))?,
            None => 0,
        };
        scratch.describe(&record, durable)?;
        // The folder itself is on disk by now.
        if filled > 1 && durable {
            scratch.sync()?;
        }
        // A folder that somebody put there by hand is not ours to remove: renaming over it fails.
        disk.install(scratch, name, durable)?;
        let known = Known { record, unusable: None, users: BTreeMap::new(), backups: 0 };
        self.known().insert(name.to_owned(), known);
        self.changed();
        Ok(())
    }

    /// Whether a volume is there; an error if it must not be touched.
    pub(super) fn check_usable(&self, name: &str) -> Result<bool, VolumeError> {
        let known = self.known();
        let Some(found) = known.get(name) else { return Ok(false) };
        match &found.unusable {
            Some(why) => Err(VolumeError::Unusable { name: name.to_owned(), why: why.clone() }),
            None => Ok(true),
        }
    }

    /// Makes sure that a volume is there and may go; its name is locked.
    pub(super) fn check_free(&self, name: &str) -> Result<(), VolumeError> {
        let name = name.to_owned();
        if !self.check_usable(&name)? {
            return Err(VolumeError::NotFound(name));
        }
        let VolumeInfo { users, .. } = self.get(&name)?;
        if !users.is_empty() {
            return Err(VolumeError::InUse { name, users });
        }
        match self.known().get(&name) {
            Some(known) if known.backups > 0 => Err(VolumeError::BackedUp(name)),
            _ => Ok(()),
        }
    }

    /// Notes a volume that was put into its place; its name is locked.
    pub(super) fn note(&self, name: &str, record: Record) {
        let known = Known { record, unusable: None, users: BTreeMap::new(), backups: 0 };
        self.known().insert(name.to_owned(), known);
        self.changed();
    }

    pub(super) fn check_room(&self) -> Result<(), VolumeError> {
        if self.known().len() >= VOLUMES { Err(VolumeError::TooMany(VOLUMES)) } else { Ok(()) }
    }

    pub(super) fn disk(&self) -> &Disk {
        &self.0.disk
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.clock.now())
    }

    pub(super) fn known(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn changed(&self) {
        self.0.changes.send_modify(|count| *count += 1);
    }
}

pub(super) fn check_name(name: &str) -> Result<(), VolumeError> {
    if is_volume_name(name) { Ok(()) } else { Err(VolumeError::Name(name.to_owned())) }
}

fn info(name: &str, known: &Known) -> VolumeInfo {
    let Record { labels, created_at, anonymous, owner } = known.record.clone();
    let user = |(task, service): (&TaskId, &String)| VolumeUser { task: *task, service: service.clone() };
    let users = known.users.iter().map(user).collect();
    VolumeInfo { name: name.to_owned(), labels, created_at, anonymous, owner, users }
}
