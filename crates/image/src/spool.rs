//! Temporary files of the store: written under `tmp/`, gone unless they are installed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use coracle_model::digest::Digest;
use coracle_remove_tree::remove_tree;

use crate::error::{ImageError, LimitKind};
use crate::hash::Hasher;

/// Bytes between two looks at the free space.
const SPACE_CHECK_INTERVAL: u64 = 32 << 20;

/// Hands out unique names below one directory.
#[derive(Debug)]
pub(crate) struct TemporaryDirectory {
    path: PathBuf,
    next: AtomicU64,
    reserve: u64,
}

impl TemporaryDirectory {
    /// Everything already in `path` is a leftover of a crash: nothing there was ever installed.
    pub(crate) fn open(path: PathBuf, reserve: u64) -> Result<Self, ImageError> {
        match remove_tree(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(ImageError::io("removing leftovers in", &path, error));
            }
            _ => create_private_directory(&path)?,
        }
        Ok(Self { path, next: AtomicU64::new(0), reserve })
    }

    /// A name nobody else has.
    pub(crate) fn unique(&self, purpose: &str) -> PathBuf {
        self.path.join(format!("{purpose}-{}", self.next.fetch_add(1, Ordering::Relaxed)))
    }

    /// A new empty file that is removed when dropped.
    pub(crate) fn file(&self, purpose: &str) -> Result<TemporaryFile, ImageError> {
        let path = self.unique(purpose);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| ImageError::io("creating", &path, error))?;
        let temporary = TemporaryFile {
            file: Some(file),
            path,
            hasher: Hasher::default(),
            reserve: self.reserve,
            unchecked: 0,
            installed: false,
        };
        temporary.check_space_for(0)?;
        Ok(temporary)
    }

    /// A new empty directory that is removed when dropped.
    pub(crate) fn directory(&self, purpose: &str) -> Result<ScratchDirectory, ImageError> {
        let path = self.unique(purpose);
        create_private_directory(&path)?;
        Ok(ScratchDirectory { path, installed: false })
    }
}

/// A directory under construction.
#[derive(Debug)]
pub(crate) struct ScratchDirectory {
    path: PathBuf,
    installed: bool,
}

impl ScratchDirectory {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Renames to `destination`, which must not exist.
    pub(crate) fn install(mut self, destination: &Path) -> Result<(), ImageError> {
        fs::rename(&self.path, destination)
            .map_err(|error| ImageError::io("installing", destination, error))?;
        self.installed = true;
        sync_parent(destination)
    }
}

impl Drop for ScratchDirectory {
    fn drop(&mut self) {
        if !self.installed
            && let Err(error) = remove_tree(&self.path)
        {
            tracing::debug!(path = %self.path.display(), %error, "leftover stays until the store is opened again");
        }
    }
}

/// A file under construction; hashes what is written.
#[derive(Debug)]
pub(crate) struct TemporaryFile {
    /// For appending; nothing once that is over.
    file: Option<File>,
    path: PathBuf,
    hasher: Hasher,
    reserve: u64,
    unchecked: u64,
    installed: bool,
}

impl TemporaryFile {
    /// Appends `bytes`, keeping the disk's reserve free.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        self.unchecked += bytes.len() as u64;
        if self.unchecked >= SPACE_CHECK_INTERVAL {
            self.unchecked = 0;
            check_space(self.appending()?, &self.path, self.reserve)?;
        }
        let written = self.appending()?.write_all(bytes);
        written.map_err(|error| ImageError::io("writing", &self.path, error))?;
        self.hasher.update(bytes);
        Ok(())
    }

    /// Appends all of `source`, at most `maximum` bytes; `place` names the source in errors.
    pub(crate) fn append_all(
        &mut self,
        mut source: impl Read,
        place: &str,
        maximum: u64,
    ) -> Result<(), ImageError> {
        let mut buffer = vec![0; 128 << 10];
        loop {
            let count = match source.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let input = |source| ImageError::Input { place: place.to_owned(), source };
                    return Err(ImageError::from_read(error, input));
                }
            };
            if self.bytes() + count as u64 > maximum {
                return Err(ImageError::limit(place, LimitKind::BlobBytes, maximum));
            }
            self.append(&buffer[..count])?;
        }
    }

    /// Refuses when `bytes` more would not leave the disk's reserve free.
    pub(crate) fn check_space_for(&self, bytes: u64) -> Result<(), ImageError> {
        check_space(self.appending()?, &self.path, self.reserve.saturating_add(bytes))
    }

    /// Ends the appending: nothing is held but a name until it is installed.
    pub(crate) fn close(&mut self) {
        self.file = None;
    }

    fn appending(&self) -> Result<&File, ImageError> {
        let closed = || ImageError::io("writing to the end of", &self.path, io::ErrorKind::BrokenPipe);
        self.file.as_ref().ok_or_else(closed)
    }

    /// Bytes written so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.hasher.bytes()
    }

    /// The digest of the bytes written so far.
    pub(crate) fn digest(&self) -> Digest {
        self.hasher.clone().finish().0
    }

    /// The file from its start.
    pub(crate) fn reopen(&self) -> Result<File, ImageError> {
        File::open(&self.path).map_err(|error| ImageError::io("opening", &self.path, error))
    }

    /// Makes the content durable under `destination`, replacing what is there.
    pub(crate) fn install(mut self, destination: &Path) -> Result<(), ImageError> {
        let file = match self.file.take() {
            Some(file) => file,
            None => self.reopen()?,
        };
        file.sync_all().map_err(|error| ImageError::io("syncing", &self.path, error))?;
        fs::rename(&self.path, destination)
            .map_err(|error| ImageError::io("installing", destination, error))?;
        self.installed = true;
        sync_parent(destination)
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        if !self.installed
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::debug!(path = %self.path.display(), %error, "leftover stays until the store is opened again");
        }
    }
}

/// Bytes for which ext4 makes an inode, mke2fs.conf(5).
const BYTES_PER_INODE: u64 = 16 << 10;

/// Refuses to go on when less than `reserve` bytes are free on the file system of `file`, or less inodes than belong to them.
pub(crate) fn check_space(file: impl AsFd, path: &Path, reserve: u64) -> Result<(), ImageError> {
    let state = rustix::fs::fstatvfs(file)
        .map_err(|error| ImageError::io("reading the free space for", path, error))?;
    // Some file systems make inodes as they need them, and say that they have none.
    let has_inodes = state.f_files == 0 || state.f_favail >= reserve / BYTES_PER_INODE;
    if state.f_bavail.saturating_mul(state.f_frsize) < reserve || !has_inodes {
        return Err(ImageError::NoSpace { path: path.to_owned(), source: None });
    }
    Ok(())
}

/// Creates a directory only its owner can enter; it may exist already.
pub(crate) fn create_private_directory(path: &Path) -> Result<(), ImageError> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    let failed = |error| ImageError::io("creating", path, error);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(failed)
}

/// Makes a rename durable.
pub(crate) fn sync_parent(path: &Path) -> Result<(), ImageError> {
    path.parent().map_or(Ok(()), sync_directory)
}

/// Makes what was put into a directory, or taken out of it, durable.
pub(crate) fn sync_directory(path: &Path) -> Result<(), ImageError> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(|error| ImageError::io("syncing", path, error))
}
