//! The directory of snapshots: the newest, and the one before it.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use coracle_disk::Storage;
use coracle_seal::KeyRing;

use super::file::{SnapshotReader, SnapshotWriter};
use crate::raft::error::RaftStartError;
use crate::raft::types::{SnapshotMeta, term_of};

const SUFFIX: &str = ".snapshot";
const TEMPORARY: &str = ".tmp";
/// Snapshots kept: the newest may turn out to be damaged.
const KEPT: usize = 2;

/// A complete, checked snapshot file.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotFile {
    storage: Arc<dyn Storage>,
    name: String,
}

/// The snapshots of one manager.
#[derive(Debug)]
pub(crate) struct SnapshotStore {
    storage: Arc<dyn Storage>,
    ring: KeyRing,
    sequence: AtomicU64,
    current: Mutex<Option<(SnapshotMeta, SnapshotFile)>>,
}

impl SnapshotStore {
    /// Opens the directory: removes what was not finished and finds the newest snapshot that can be read whole.
    ///
    /// `purged` is the last entry that the log no longer holds; a snapshot must reach it.
    pub(crate) fn open(
        storage: Arc<dyn Storage>,
        ring: &KeyRing,
        purged: Option<u64>,
    ) -> Result<Arc<Self>, RaftStartError> {
        let store =
            Self { storage, ring: ring.clone(), sequence: AtomicU64::new(0), current: Mutex::new(None) };
        store.remove_unfinished()?;
        let names = store.names().map_err(store.failed("listing", ""))?;
        let current = store.newest_readable(names, purged)?;
        *store.current.lock().unwrap_or_else(PoisonError::into_inner) = current;
        Ok(Arc::new(store))
    }

    fn remove_unfinished(&self) -> Result<(), RaftStartError> {
        let names = self.storage.list().map_err(self.failed("listing", ""))?;
        for name in names.iter().filter(|name| name.ends_with(TEMPORARY)) {
            self.storage.remove(name).map_err(self.failed("removing", name))?;
        }
        Ok(())
    }

    /// The names of all snapshots, oldest first.
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = self.storage.list()?;
        names.retain(|name| name.ends_with(SUFFIX));
        // They sort by index, then term.
        names.sort();
        Ok(names)
    }

    fn newest_readable(
        &self,
        names: Vec<String>,
        purged: Option<u64>,
    ) -> Result<Option<(SnapshotMeta, SnapshotFile)>, RaftStartError> {
        let mut damaged: Vec<(String, String)> = Vec::new();
        let mut usable = None;
        for name in names.into_iter().rev() {
            match self.verify(&name) {
                Ok(meta) if meta.last_log_id.map(|log_id| log_id.index) >= purged => {
                    usable = Some((meta, self.finished(name)));
                    break;
                }
                Ok(_) => break,
                Err(error) => damaged.push((name, error.to_string())),
            }
        }
        match (&usable, damaged.first(), purged) {
            (None, Some((name, what)), Some(_)) => Err(RaftStartError::SnapshotDamaged {
                path: self.storage.path().join(name),
                what: what.clone(),
            }),
            (None, None, Some(index)) => {
                Err(RaftStartError::SnapshotMissing { path: self.storage.path().to_owned(), index })
            }
            // There is an older one, or the log still holds everything.
            _ => {
                for (name, what) in &damaged {
                    self.set_aside(name, what)?;
                }
                Ok(usable)
            }
        }
    }

    fn set_aside(&self, name: &str, what: &str) -> Result<(), RaftStartError> {
        let path = self.storage.path().join(name);
        tracing::error!(path = %path.display(), what, "a snapshot is damaged; using what is older");
        self.storage.rename(name, &format!("{name}.damaged")).map_err(self.failed("setting aside", name))
    }

    fn failed(
        &self,
        operation: &'static str,
        name: &str,
    ) -> impl FnOnce(io::Error) -> RaftStartError + use<> {
        let path = self.storage.path().join(name);
        move |source| RaftStartError::File { operation, path, source }
    }

    /// Reads a whole file; returns what it covers.
    fn verify(&self, name: &str) -> io::Result<SnapshotMeta> {
        let reader = SnapshotReader::open(&*self.storage, name, &self.ring)?;
        let meta = reader.meta().clone();
        reader.finish()?;
        Ok(meta)
    }

    pub(crate) fn reader(&self, file: &SnapshotFile) -> io::Result<SnapshotReader> {
        SnapshotReader::open(&*file.storage, &file.name, &self.ring)
    }

    /// Begins a file under a temporary name.
    pub(crate) fn begin(&self, meta: &SnapshotMeta) -> io::Result<(String, SnapshotWriter)> {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        let name = format!("{sequence}{TEMPORARY}");
        match SnapshotWriter::create(&*self.storage, &name, &self.ring, meta) {
            Ok(writer) => Ok((name, writer)),
            Err(error) => {
                self.discard(&name);
                Err(error)
            }
        }
    }

    /// Removes a file that was begun and is of no use.
    pub(crate) fn discard(&self, name: &str) {
        // Best effort: a leftover is removed at the next start.
        let _ = self.storage.remove(name);
    }

    /// Names a file that was finished and not adopted yet.
    pub(crate) fn finished(&self, name: String) -> SnapshotFile {
        SnapshotFile { storage: self.storage.clone(), name }
    }

    /// Makes a finished file the current snapshot, after reading it back; removes those before the previous one.
    pub(crate) fn adopt(&self, meta: &SnapshotMeta, file: SnapshotFile) -> io::Result<SnapshotFile> {
        let wanted = name(meta);
        let file = self.own(file)?;
        if file.name != wanted {
            let found = self.verify(&file.name)?;
            if found.last_log_id != meta.last_log_id {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "snapshot covers other entries than was said",
                ));
            }
            coracle_crash_point::crash_point!("snapshot.before-rename");
            self.storage.rename(&file.name, &wanted)?;
            coracle_crash_point::crash_point!("snapshot.after-rename");
            self.storage.sync_directory()?;
        }
        let file = self.finished(wanted);
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some((meta.clone(), file.clone()));
        coracle_crash_point::crash_point!("snapshot.before-remove-old");
        self.remove_before(&file.name)?;
        Ok(file)
    }

    /// The file as one of this store. Peers' snapshots are written here as they come; only openraft's own tests hand over files
    /// of another store.
    fn own(&self, file: SnapshotFile) -> io::Result<SnapshotFile> {
        if Arc::ptr_eq(&file.storage, &self.storage) {
            return Ok(file);
        }
        let bytes = coracle_disk::read_whole(&*file.storage, &file.name)?;
        let copy = format!("{}{TEMPORARY}", self.sequence.fetch_add(1, Ordering::Relaxed));
        let own = self.storage.create(&copy)?;
        own.write_all_at(0, &bytes)?;
        own.sync_data()?;
        Ok(self.finished(copy))
    }

    /// Removes what is older than `current` and the one before it.
    fn remove_before(&self, current: &str) -> io::Result<()> {
        let mut older = self.names()?;
        older.retain(|name| name.as_str() < current);
        let surplus = (older.len() + 1).saturating_sub(KEPT);
        for name in &older[..surplus] {
            self.storage.remove(name)?;
        }
        Ok(())
    }

    /// The newest snapshot.
    pub(crate) fn current(&self) -> Option<(SnapshotMeta, SnapshotFile)> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn name(meta: &SnapshotMeta) -> String {
    let (index, term) = meta.last_log_id.as_ref().map_or((0, 0), |log_id| (log_id.index, term_of(log_id)));
    format!("{index:020}-{term:020}{SUFFIX}")
}
