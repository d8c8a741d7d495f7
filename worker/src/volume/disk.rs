//! How volumes lie on disk.
//!
//! ```text
//! volumes/                 0700
//!   .tmp/                  under construction, and what is being removed
//!   .old-N/                what was there when a daemon started; it goes meanwhile
//!   NAME/                  0700
//!     volume.json          labels and origin; written once, before the folder has its name
//!     _data/               what containers see
//! ```
//!
//! A volume is made in `.tmp`, synced, and renamed: it has its name when it is whole. Removing renames it back first. No name
//! of a volume begins with a dot.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use coracle_crash_point::crash_point;
use coracle_model::id::TaskId;
use coracle_model::time::Timestamp;
use coracle_model::volume::{LOCAL_DRIVER, is_volume_name};
use coracle_remove_tree::remove_tree;
use rustix::fs::{CWD, RenameFlags, renameat_with, syncfs};
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::VolumeError;

/// The format of `volume.json` that this version writes, and the newest that it reads.
const FORMAT: u32 = 1;
const RECORD: &str = "volume.json";
const DATA: &str = "_data";
/// What a record has at most, however many labels.
const RECORD_BYTES: u64 = 4 << 20;

/// What is kept beside the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) created_at: Timestamp,
    /// Nobody gave it a name.
    pub(super) anonymous: bool,
    /// The task with whose container it goes.
    pub(super) owner: Option<TaskId>,
}

/// The file's content.
#[derive(Debug, Serialize, Deserialize)]
struct RecordFile {
    format: u32,
    driver: String,
    created_at_nanoseconds: u64,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    anonymous: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
}

/// A volume that was there when the store was opened.
pub(super) struct Stored {
    pub(super) name: String,
    pub(super) record: Record,
    /// Why this version must not touch it.
    pub(super) unusable: Option<String>,
}

/// The folder of all volumes.
#[derive(Debug)]
pub(super) struct Disk {
    root: PathBuf,
    next: AtomicU64,
}

/// A volume under construction; gone unless it is installed.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    installed: bool,
    /// Nobody waits until it is gone.
    goes_meanwhile: bool,
}

pub(super) fn io(action: &'static str, path: &Path, source: impl Into<io::Error>) -> VolumeError {
    VolumeError::Io { action, path: path.to_owned(), source: source.into() }
}

impl Disk {
    /// Opens the folder, making it when it is missing, and removes what a crash has left half made.
    pub(super) fn open(root: PathBuf) -> Result<Self, VolumeError> {
        private_directory(&root)?;
        let temporary = root.join(".tmp");
        set_aside(&root, &temporary)?;
        private_directory(&temporary)?;
        Ok(Self { root, next: AtomicU64::new(0) })
    }

    /// Every volume there is.
    pub(super) fn stored(&self) -> Result<Vec<Stored>, VolumeError> {
        let failed = |error| io("listing", &self.root, error);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if is_volume_name(name) && path.is_dir() {
                found.push(stored(name, &path));
            }
        }
        Ok(found)
    }

    /// What containers see of a volume.
    pub(super) fn data(&self, name: &str) -> PathBuf {
        self.root.join(name).join(DATA)
    }

    /// Begins a volume with an empty folder of data.
    pub(super) fn scratch(&self) -> Result<Scratch, VolumeError> {
        let path = self.unique();
        private_directory(&path)?;
        let scratch = Scratch { path, installed: false, goes_meanwhile: false };
        let data = scratch.data();
        // For root alone to write, for everybody to read, whatever the mask is: as Docker has it.
        fs::create_dir(&data)
            .and_then(|()| fs::set_permissions(&data, fs::Permissions::from_mode(0o755)))
            .map_err(|error| io("creating", &data, error))?;
        Ok(scratch)
    }

    /// Gives a volume its name.
    pub(super) fn install(&self, mut scratch: Scratch, name: &str, durable: bool) -> Result<(), VolumeError> {
        let path = self.root.join(name);
        crash_point!("volume.create.before-rename");
        fs::rename(&scratch.path, &path).map_err(|error| io("installing", &path, error))?;
        scratch.installed = true;
        crash_point!("volume.create.after-rename");
        if durable { sync_directory(&self.root) } else { Ok(()) }
    }

    /// Puts this one in place of the one that has the name, in one step. That one's content goes when the answer is dropped.
    pub(super) fn replace(&self, mut scratch: Scratch, name: &str) -> Result<Scratch, VolumeError> {
        let path = self.root.join(name);
        let exchange = |from: &Path| renameat_with(CWD, from, CWD, &path, RenameFlags::EXCHANGE);
        crash_point!("volume.replace.before-exchange");
        exchange(&scratch.path).map_err(|error| io("replacing", &path, error))?;
        crash_point!("volume.replace.after-exchange");
        // What was replaced now is where the new one was. It must not go before the exchange is on disk.
        if let Err(error) = sync_directory(&self.root) {
            scratch.installed = exchange(&scratch.path).is_err();
            return Err(error);
        }
        crash_point!("volume.replace.before-remove-old");
        Ok(scratch)
    }

    /// Puts the data of this one in place of the empty data of the one that has the name. Whether that was done: not if
    /// there is something in it after all.
    pub(super) fn fill(&self, scratch: &Scratch, name: &str) -> Result<bool, VolumeError> {
        let data = self.data(name);
        match fs::rename(scratch.data(), &data) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => return Ok(false),
            result => result.map_err(|error| io("filling", &data, error))?,
        }
        sync_directory(&self.root.join(name))?;
        Ok(true)
    }

    /// Whether a volume has nothing in it.
    pub(super) fn is_empty(&self, name: &str) -> Result<bool, VolumeError> {
        let data = self.data(name);
        let mut entries = fs::read_dir(&data).map_err(|error| io("looking into", &data, error))?;
        Ok(entries.next().is_none())
    }

    /// Takes its name from a volume; nothing if there is none. Its content goes when the answer is dropped.
    pub(super) fn bury(&self, name: &str, durable: bool) -> Result<Option<Scratch>, VolumeError> {
        let path = self.root.join(name);
        let grave = self.unique();
        match fs::rename(&path, &grave) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            result => result.map_err(|error| io("removing", &path, error))?,
        }
        let grave = Scratch { path: grave, installed: false, goes_meanwhile: false };
        crash_point!("volume.remove.after-rename");
        if durable {
            sync_directory(&self.root)?;
        }
        Ok(Some(grave))
    }

    fn unique(&self) -> PathBuf {
        self.root.join(".tmp").join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }
}

impl Scratch {
    /// Dropped, this one goes meanwhile, or the one that it replaces: there may be much in it, and somebody waits for the answer.
    /// What a crash leaves of it goes when the daemon starts.
    pub(super) fn that_goes_meanwhile(self) -> Self {
        let mut scratch = self;
        scratch.goes_meanwhile = true;
        scratch
    }

    /// What containers are going to see.
    pub(super) fn data(&self) -> PathBuf {
        self.path.join(DATA)
    }

    /// Writes the record.
    pub(super) fn describe(&self, record: &Record, durable: bool) -> Result<(), VolumeError> {
        let file = RecordFile {
            format: FORMAT,
            driver: LOCAL_DRIVER.to_owned(),
            created_at_nanoseconds: record.created_at.as_nanos(),
            labels: record.labels.clone(),
            anonymous: record.anonymous,
            owner: record.owner.map(|owner| owner.to_string()),
        };
        let path = self.path.join(RECORD);
        let failed = |error| io("writing", &path, error);
        let text = serde_json::to_vec_pretty(&file).map_err(|error| failed(error.into()))?;
        let options = || fs::OpenOptions::new().write(true).create_new(true).mode(0o600).to_owned();
        let mut written = options().open(&path).map_err(failed)?;
        written.write_all(&text).map_err(failed)?;
        if durable {
            written.sync_all().map_err(failed)?;
            sync_directory(&self.data())?;
            sync_directory(&self.path)?;
        }
        Ok(())
    }

    /// Writes everything in it to disk: one call instead of one for each file.
    pub(super) fn sync(&self) -> Result<(), VolumeError> {
        let handle = File::open(&self.path).map_err(|error| io("opening", &self.path, error))?;
        syncfs(&handle).map_err(|error| io("syncing", &self.path, error))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.installed {
            return;
        }
        let remove = |path: &Path| {
            if let Err(error) = remove_tree(path) {
                warn!(path = %path.display(), %error, "part of a volume stays until the daemon starts again");
            }
        };
        let path = self.path.clone();
        let thread =
            || std::thread::Builder::new().name("old-volume".to_owned()).spawn(move || remove(&path));
        if !self.goes_meanwhile || thread().is_err() {
            remove(&self.path);
        }
    }
}

/// Gives what a crash has left another name, and removes all of these meanwhile: it may be a whole volume, for which nobody
/// is to wait.
fn set_aside(root: &Path, temporary: &Path) -> Result<(), VolumeError> {
    let mut aside = (0_u64..).map(|number| root.join(format!(".old-{number}")));
    let free = aside.find(|path| !path.exists()).unwrap_or_else(|| root.join(".old"));
    match fs::rename(temporary, &free) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(io("renaming", temporary, error));
        }
        _ => {}
    }
    let listed = fs::read_dir(root).map_err(|error| io("listing", root, error))?;
    let is_old =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".old"));
    let old: Vec<PathBuf> = listed.flatten().map(|entry| entry.path()).filter(is_old).collect();
    let removing = move || {
        for path in old {
            if let Err(error) = remove_tree(&path) {
                warn!(path = %path.display(), %error, "what is left of volumes was not removed");
            }
        }
    };
    if let Err(error) = std::thread::Builder::new().name("old-volumes".to_owned()).spawn(removing) {
        warn!(%error, "what is left of volumes stays until the daemon starts again");
    }
    Ok(())
}

/// The name of a task's own volume.
pub(super) fn own_name(task: TaskId, index: usize) -> String {
    format!("{task}-{index}")
}

/// Whose own volume has this name.
fn owner_by_name(name: &str) -> Option<TaskId> {
    let (task, index) = name.split_once('-')?;
    let owner = task.parse().ok()?;
    (index.parse().map(|index| own_name(owner, index)).ok()? == name).then_some(owner)
}

/// A record that is damaged takes its labels along, but not the data. Those of tasks' own volumes are not synced: a loss of power
/// may take them, and the volumes go with their tasks all the same.
fn stored(name: &str, path: &Path) -> Stored {
    let origin = || {
        let modified = fs::metadata(path).and_then(|meta| meta.modified()).ok();
        let since = modified.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        Timestamp::from_nanos(since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(0)))
    };
    let owner = owner_by_name(name);
    let anonymous = owner.is_some();
    let bare = Record { labels: BTreeMap::new(), created_at: origin(), anonymous, owner };
    let name = name.to_owned();
    match read_record(&path.join(RECORD)) {
        Ok(file) if file.format > FORMAT => {
            let why = format!("it was made by a newer version (format {}): update this node", file.format);
            Stored { name, record: bare, unusable: Some(why) }
        }
        Ok(file) => {
            let record = Record {
                labels: file.labels,
                created_at: Timestamp::from_nanos(file.created_at_nanoseconds),
                anonymous: file.anonymous,
                owner: file.owner.and_then(|owner| owner.parse().ok()),
            };
            Stored { name, record, unusable: None }
        }
        Err(error) => {
            warn!(volume = name, %error, "a volume's record cannot be read: its labels are lost, its data is kept");
            Stored { name, record: bare, unusable: None }
        }
    }
}

fn read_record(path: &Path) -> io::Result<RecordFile> {
    let file = File::open(path)?;
    serde_json::from_reader(io::BufReader::new(io::Read::take(file, RECORD_BYTES))).map_err(io::Error::from)
}

fn private_directory(path: &Path) -> Result<(), VolumeError> {
    let failed = |error| io("creating", path, error);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(failed)
}

fn sync_directory(path: &Path) -> Result<(), VolumeError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(|error| io("syncing", path, error))
}
