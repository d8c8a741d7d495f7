//! The few file operations the log needs, so that tests can take the power away at any of them.

use std::io;

/// One flat directory of files.
pub trait Storage: Send + Sync + 'static {
    /// An open file of this storage.
    type File: StorageFile;

    /// The names of all files.
    ///
    /// # Errors
    /// As the operating system says; so for every operation here.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Creates an empty file that must not exist yet. Durable after [`Storage::sync_directory`].
    ///
    /// # Errors
    /// As the operating system says.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// Opens an existing file.
    ///
    /// # Errors
    /// As the operating system says.
    fn open(&self, name: &str) -> io::Result<Self::File>;

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

    /// Bytes that this process may still write, as statvfs(3) reports them.
    ///
    /// # Errors
    /// As the operating system says.
    fn free_space(&self) -> io::Result<u64>;

    /// Nothing will be written any more: another process may open the storage for writing.
    fn release(&self) {}
}

/// An open file.
pub trait StorageFile: Send + Sync + 'static {
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

    /// Makes content and length durable (fdatasync(2) also flushes the metadata that is needed to read it back).
    ///
    /// # Errors
    /// As the operating system says; what is durable is then unknown.
    fn sync_data(&self) -> io::Result<()>;
}
