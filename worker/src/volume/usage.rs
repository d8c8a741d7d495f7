//! Who uses which volume: tasks take them, and are done with them when their containers are gone.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use coracle_daemon::ErrorChain;
use coracle_image::tree::set_label;
use coracle_model::id::TaskId;
use tracing::warn;

use super::disk::{Record, Scratch, io};
use super::store::{Known, check_name};
use super::{VolumeError, VolumeStore, VolumeUser};

/// What a task wants to mount.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) name: &'a str,
    /// For a new one.
    pub(crate) labels: &'a BTreeMap<String, String>,
    /// A new one belongs to the task and goes with it.
    pub(crate) is_own: bool,
}

/// Puts into an empty folder what a new volume is to begin with; tells how many entries that was, with the folder itself.
pub(crate) type Fill<'a> = &'a dyn Fn(&Path) -> Result<u64, String>;

impl VolumeStore {
    /// Gives a task a volume, made and filled if it is new, and notes that the task uses it until it is released. Returns the
    /// folder that its container is to see.
    pub(crate) fn take(
        &self,
        user: &VolumeUser,
        wanted: Wanted<'_>,
        fill: Option<Fill<'_>>,
    ) -> Result<PathBuf, VolumeError> {
        let Wanted { name, labels, is_own } = wanted;
        check_name(name)?;
        let _lock = self.lock(name);
        if self.check_usable(name)? {
            if let Some(fill) = fill {
                self.fill_if_empty(name, fill)?;
            }
        } else {
            let owner = is_own.then_some(user.task);
            let record = Record { labels: labels.clone(), created_at: self.now(), anonymous: is_own, owner };
            self.make(name, record, fill)?;
        }
        let data = self.disk().data(name);
        if !data.is_dir() {
            let why = format!("{} is missing on the disk: remove the volume, or restore it", data.display());
            return Err(VolumeError::Unusable { name: name.to_owned(), why });
        }
        if let Some(known) = self.known().get_mut(name) {
            known.users.insert(user.task, user.service.clone());
        }
        self.changed();
        Ok(data)
    }

    /// Gives all that is in a volume an SELinux label, unless its folder has it: then all of it has.
    pub(crate) fn label(&self, name: &str, label: &str) -> Result<(), VolumeError> {
        let _lock = self.lock(name);
        let data = self.disk().data(name);
        let failed = |error| io("labelling", &data, error);
        let root = File::open(&data).map_err(failed)?;
        set_label(root.as_fd(), label).map_err(failed)
    }

    /// The container of a task is gone: it uses no volume, and those of its own go.
    pub(crate) fn release(&self, task: TaskId) {
        let mut own = Vec::new();
        let mut any = false;
        for (name, known) in self.known().iter_mut() {
            any |= known.users.remove(&task).is_some();
            if known.record.owner == Some(task) && known.users.is_empty() {
                own.push(name.clone());
            }
        }
        if any {
            self.changed();
        }
        drop(self.bury_own(own));
    }

    /// Notes who uses what after a restart of the daemon, and removes what belonged to containers that are gone.
    pub(crate) fn recover(&self, users: &[(VolumeUser, Vec<String>)]) {
        let mut orphans = Vec::new();
        {
            let mut known = self.known();
            for (user, names) in users {
                for name in names {
                    if let Some(volume) = known.get_mut(name) {
                        volume.users.insert(user.task, user.service.clone());
                    }
                }
            }
            for (name, volume) in known.iter() {
                if volume.record.owner.is_some() && volume.users.is_empty() {
                    orphans.push(name.clone());
                }
            }
        }
        self.changed();
        let graves = self.bury_own(orphans);
        // Their content may be much, and a node that starts is waited for.
        let removing = std::thread::Builder::new().name("old-volumes".to_owned()).spawn(move || drop(graves));
        if let Err(error) = removing {
            warn!(%error, "the daemon could not remove old volumes beside everything else");
        }
    }

    /// Takes their names from volumes of tasks that are gone. Their content goes when the answer is dropped.
    fn bury_own(&self, names: Vec<String>) -> Vec<Scratch> {
        let mut graves = Vec::new();
        for name in names {
            match self.bury(&name) {
                Ok(grave) => graves.extend(grave),
                Err(VolumeError::NotFound(_)) => {}
                Err(error) => {
                    warn!(volume = name, error = %ErrorChain(&error), "a volume of a task that is gone was not removed");
                }
            }
        }
        graves
    }

    /// Fills a volume that is there, if nothing is in it and nobody sees it.
    fn fill_if_empty(&self, name: &str, fill: Fill<'_>) -> Result<(), VolumeError> {
        let is_seen = |known: &Known| !known.users.is_empty() || known.backups > 0;
        let disk = self.disk();
        if self.known().get(name).is_none_or(is_seen) || !disk.is_empty(name)? {
            return Ok(());
        }
        let scratch = disk.scratch()?;
        if fill(&scratch.data()).map_err(|why| filling(name, why))? > 0 {
            scratch.sync()?;
            disk.fill(&scratch, name)?;
        }
        Ok(())
    }
}

/// Why the image's content did not get in.
pub(super) fn filling(name: &str, why: String) -> VolumeError {
    VolumeError::Filling { name: name.to_owned(), why }
}
