//! What a directory and a file can do.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Room on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that this process may still write.
    pub free: u64,
    /// Size of the file system, in bytes.
    pub total: u64,
}

/// One directory.
///
/// Every operation fails as the operating system says.
pub trait Storage: fmt::Debug + Send + Sync + 'static {
    /// Where it is, for telling an operator.
    fn path(&self) -> &Path;

    /// The names of all that is in it, in no order, except for the file that holds the lock.
    ///
    /// # Errors
    /// As the operating system says; so for every operation here.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Creates an empty file (mode 0600) that must not exist yet. Its name is durable after [`Storage::sync_directory`].
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`]; else as the operating system says.
    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>>;

    /// Opens an existing file.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`]; else as the operating system says.
    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>>;

    /// Renames a file, replacing what has the new name. Durable after [`Storage::sync_directory`].
    ///
    /// # Errors
    /// As the operating system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Durable after [`Storage::sync_directory`].
    ///
    /// # Errors
    /// As the operating system says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes creations, renames and removals durable.
    ///
    /// # Errors
    /// As the operating system says.
    fn sync_directory(&self) -> io::Result<()>;

    /// A directory in this one; created (mode 0700), durably, when it is missing.
    ///
    /// # Errors
    /// As the operating system says.
    fn subdirectory(&self, name: &str) -> io::Result<Arc<dyn Storage>>;

    /// The room left, as statvfs(3) reports it.
    ///
    /// # Errors
    /// As the operating system says.
    fn space(&self) -> io::Result<Space>;

    /// Keeps other processes from taking this lock, until [`Storage::release`] or the end of this process.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when another process has it; else as the operating system says.
    fn lock(&self) -> io::Result<()> {
        Ok(())
    }

    /// Nothing will be written any more: another process may take the lock.
    fn release(&self) {}
}

/// An open file.
pub trait StorageFile: fmt::Debug + Send + Sync + 'static {
    /// Length in bytes.
    ///
    /// # Errors
    /// As the operating system says.
    fn length(&self) -> io::Result<u64>;

    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] when the file ends before.
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`. Durable after [`StorageFile::sync_data`].
    ///
    /// # Errors
    /// As the operating system says; part of it may have been written.
    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the file to `length` bytes. Durable after [`StorageFile::sync_data`].
    ///
    /// # Errors
    /// As the operating system says.
    fn truncate(&self, length: u64) -> io::Result<()>;

    /// Makes content and length durable (fdatasync(2) also flushes the metadata that is needed to read it back), but not
    /// the file's name.
    ///
    /// # Errors
    /// As the operating system says; what is durable is then unknown.
    fn sync_data(&self) -> io::Result<()>;
}

impl<T: Storage + ?Sized> Storage for Arc<T> {
    fn path(&self) -> &Path {
        (**self).path()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        (**self).list()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        (**self).create(name)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        (**self).open(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        (**self).rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        (**self).remove(name)
    }

    fn sync_directory(&self) -> io::Result<()> {
        (**self).sync_directory()
    }

    fn subdirectory(&self, name: &str) -> io::Result<Arc<dyn Storage>> {
        (**self).subdirectory(name)
    }

    fn space(&self) -> io::Result<Space> {
        (**self).space()
    }

    fn lock(&self) -> io::Result<()> {
        (**self).lock()
    }

    fn release(&self) {
        (**self).release();
    }
}

/// Reads a small file as a whole.
///
/// # Errors
/// [`io::ErrorKind::NotFound`]; else as the operating system says.
pub fn read_whole(storage: &dyn Storage, name: &str) -> io::Result<Vec<u8>> {
    let file = storage.open(name)?;
    let mut bytes = vec![0; usize::try_from(file.length()?).map_err(io::Error::other)?];
    file.read_exact_at(0, &mut bytes)?;
    Ok(bytes)
}
