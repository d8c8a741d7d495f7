//! The directory of snapshots: the newest, and the one before it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use coracle_seal::{KeyRing, sync_directory};

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
    path: PathBuf,
}

/// The snapshots of one manager.
#[derive(Debug)]
pub(crate) struct SnapshotStore {
    directory: PathBuf,
    ring: KeyRing,
    sequence: AtomicU64,
    current: Mutex<Option<(SnapshotMeta, SnapshotFile)>>,
}

impl SnapshotStore {
    /// Opens the directory: removes what was not finished and finds the newest snapshot that can be read whole.
    ///
    /// `purged` is the last entry that the log no longer holds; a snapshot must reach it.
    pub(crate) fn open(
        directory: &Path,
        ring: &KeyRing,
        purged: Option<u64>,
    ) -> Result<Arc<Self>, RaftStartError> {
        fs::create_dir_all(directory).map_err(failed("creating", directory))?;
        let mut names = Vec::new();
        for entry in fs::read_dir(directory).map_err(failed("listing", directory))? {
            let path = entry.map_err(failed("listing", directory))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.ends_with(TEMPORARY) {
                fs::remove_file(&path).map_err(failed("removing", &path))?;
            } else if name.ends_with(SUFFIX) {
                names.push(path);
            }
        }
        // The names sort by index, then term.
        names.sort();
        let store = Self {
            directory: directory.to_owned(),
            ring: ring.clone(),
            sequence: AtomicU64::new(0),
            current: Mutex::new(None),
        };
        let current = store.newest_readable(names, purged)?;
        *store.current.lock().unwrap_or_else(PoisonError::into_inner) = current;
        Ok(Arc::new(store))
    }

    fn newest_readable(
        &self,
        names: Vec<PathBuf>,
        purged: Option<u64>,
    ) -> Result<Option<(SnapshotMeta, SnapshotFile)>, RaftStartError> {
        let mut damage: Option<(PathBuf, String)> = None;
        for path in names.into_iter().rev() {
            match self.verify(&path) {
                Ok(meta) if meta.last_log_id.map(|log_id| log_id.index) >= purged => {
                    if let Some((path, what)) = &damage {
                        set_aside(path, what)?;
                    }
                    return Ok(Some((meta, SnapshotFile { path })));
                }
                Ok(_) => break,
                Err(error) => damage = damage.or(Some((path, error.to_string()))),
            }
        }
        match (damage, purged) {
            (Some((path, what)), Some(_)) => Err(RaftStartError::SnapshotDamaged { path, what }),
            (None, Some(index)) => Err(RaftStartError::SnapshotDamaged {
                path: self.directory.clone(),
                what: format!("no snapshot is there that covers entry {index}"),
            }),
            (Some((path, what)), None) => {
                // The log still holds everything.
                set_aside(&path, &what)?;
                Ok(None)
            }
            (None, None) => Ok(None),
        }
    }

    /// Reads a whole file; returns what it covers.
    pub(crate) fn verify(&self, path: &Path) -> io::Result<SnapshotMeta> {
        let reader = SnapshotReader::open(path, &self.ring)?;
        let meta = reader.meta().clone();
        reader.finish()?;
        Ok(meta)
    }

    pub(crate) fn reader(&self, file: &SnapshotFile) -> io::Result<SnapshotReader> {
        SnapshotReader::open(&file.path, &self.ring)
    }

    /// Begins a file under a temporary name.
    pub(crate) fn begin(&self, meta: &SnapshotMeta) -> io::Result<(PathBuf, SnapshotWriter)> {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.join(format!("{sequence}{TEMPORARY}"));
        let writer = SnapshotWriter::create(&path, &self.ring, meta)?;
        Ok((path, writer))
    }

    /// Names a file that was finished and not adopted yet.
    pub(crate) fn finished(&self, path: PathBuf) -> SnapshotFile {
        SnapshotFile { path }
    }

    /// Makes a finished file the current snapshot, after reading it back; removes those before the previous one.
    pub(crate) fn adopt(&self, meta: &SnapshotMeta, file: SnapshotFile) -> io::Result<SnapshotFile> {
        let wanted = self.directory.join(name(meta));
        if file.path != wanted {
            let found = self.verify(&file.path)?;
            if found.last_log_id != meta.last_log_id {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "snapshot covers other entries than was said",
                ));
            }
            fs::rename(&file.path, &wanted)?;
            sync_directory(&self.directory).map_err(io::Error::other)?;
        }
        let file = SnapshotFile { path: wanted };
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some((meta.clone(), file.clone()));
        self.remove_old()?;
        Ok(file)
    }

    fn remove_old(&self) -> io::Result<()> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == &SUFFIX[1..]) {
                paths.push(path);
            }
        }
        paths.sort();
        let surplus = paths.len().saturating_sub(KEPT);
        for path in &paths[..surplus] {
            fs::remove_file(path)?;
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

fn set_aside(path: &Path, what: &str) -> Result<(), RaftStartError> {
    tracing::error!(path = %path.display(), what, "a snapshot is damaged; using what is older");
    let mut aside = path.as_os_str().to_owned();
    aside.push(".damaged");
    fs::rename(path, PathBuf::from(aside)).map_err(failed("setting aside", path))
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RaftStartError + use<> {
    let path = path.to_owned();
    move |source| RaftStartError::File { operation, path, source }
}
