//! The storage that is a directory.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FlockOperation, flock};

use crate::storage::{Space, Storage, StorageFile};

/// Keeps a second process from opening the same directory. Not part of what is stored.
const LOCK_NAME: &str = "lock";

/// A directory on the local file system.
#[derive(Debug)]
pub struct DiskStorage {
    path: PathBuf,
    directory: File,
    /// The lock lasts as long as this file is open, or until it is released.
    lock: Mutex<Option<File>>,
}

impl DiskStorage {
    /// Opens a directory that exists, without locking it.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`]; else as the operating system says.
    pub fn existing(path: &Path) -> io::Result<Self> {
        let directory = File::open(path)?;
        Ok(Self { path: path.to_owned(), directory, lock: Mutex::new(None) })
    }

    /// Opens `path` without locking it; creates it (mode 0700) and what leads to it, durably, when it is missing.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn unlocked(path: &Path) -> io::Result<Self> {
        create_durably(path)?;
        Self::existing(path)
    }

    /// Opens `path`, creating it (mode 0700) when it is missing, and locks it for this process.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when another process holds it; else as the operating system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        let storage = Self::unlocked(path)?;
        storage.lock()?;
        Ok(storage)
    }
}

/// Creates a directory, and syncs every directory that got a new entry on the way.
fn create_durably(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    create_durably(parent)?;
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    File::open(parent)?.sync_all()
}

impl Storage for DiskStorage {
    fn path(&self) -> &Path {
        &self.path
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            if let Ok(name) = entry?.file_name().into_string()
                && name != LOCK_NAME
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        Ok(Arc::new(options.open(self.path.join(name))?))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(true).open(self.path.join(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.directory.sync_all()
    }

    fn subdirectory(&self, name: &str) -> io::Result<Arc<dyn Storage>> {
        Ok(Arc::new(Self::unlocked(&self.path.join(name))?))
    }

    fn space(&self) -> io::Result<Space> {
        let status = rustix::fs::fstatvfs(&self.directory)?;
        Ok(Space {
            free: status.f_bavail.saturating_mul(status.f_frsize),
            total: status.f_blocks.saturating_mul(status.f_frsize),
        })
    }

    fn lock(&self) -> io::Result<()> {
        let mut held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(self.path.join(LOCK_NAME))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        *held = Some(file);
        Ok(())
    }

    fn release(&self) {
        if let Some(file) = self.lock.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // If this fails, the lock ends with the file, which is closed now.
            let _ = flock(&file, FlockOperation::Unlock);
        }
    }
}

impl StorageFile for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buffer, offset)
    }

    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(self, bytes, offset)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        Self::sync_data(self)
    }
}
