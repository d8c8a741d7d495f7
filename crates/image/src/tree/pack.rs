//! Packs the tree below a directory. Nothing is reached through a link: each directory is opened below the root without
//! following any, and each file in its directory without following it.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, fgetxattr, flistxattr, fstat, openat, readlinkat, statat,
};
use rustix::io::Errno;

use crate::error::printable;
use crate::limits::TREE_ATTRIBUTE_BYTES;
use crate::tar::{EntryKind, NewEntry, TarWriter};
use crate::unpack::attributes::is_kept_in_trees;
use crate::unpack::sparse::{Map, write_map};
use crate::walk::{Agenda, child, names, open_directory};

use super::TreeReport;
use super::content::{Pieces, Source, pieces};

/// Bytes of a path at most (`PATH_MAX` with its NUL, and the slash of a directory): longer ones could not be unpacked.
const PATH_BYTES: usize = 4094;

/// Why a tree was not packed whole.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// Whoever takes the archive does not take it.
    #[error("the archive could not be written")]
    Sink(#[source] io::Error),
    /// The caller wanted it to end.
    #[error("it was stopped")]
    Stopped,
    /// Something in the tree cannot be read.
    #[error("{action} {path:?}")]
    Read {
        /// What was attempted, in the form "reading".
        action: &'static str,
        /// Its path below the tree's root.
        path: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A path is longer than archives are unpacked with.
    #[error("the path {0:?} is longer than {PATH_BYTES} bytes: such trees cannot be packed")]
    LongPath(String),
    /// A file has more attributes than archives are unpacked with.
    #[error(
        "the extended attributes of {0:?} have more than {TREE_ATTRIBUTE_BYTES} bytes: such trees cannot be packed"
    )]
    ManyAttributes(String),
}

/// Packs everything below the directory `root`, and itself as `./`, into `sink`. `is_stopped` is asked now and then whether to
/// end early. The tree may be in use; what changes meanwhile is counted.
///
/// # Errors
/// See [`PackError`].
pub fn pack(
    root: BorrowedFd<'_>,
    sink: impl Write,
    is_stopped: &dyn Fn() -> bool,
) -> Result<TreeReport, PackError> {
    let device = fstat(root).map_err(|error| failed("reading the status of", b"./", error))?.st_dev;
    let mut packer = Packer {
        root,
        device,
        archive: TarWriter::new(sink),
        linked: HashMap::new(),
        report: TreeReport::default(),
        is_stopped,
    };
    let mut agenda = Agenda::default();
    while let Some(directory) = agenda.next() {
        let below = packer.directory(&directory.into())?;
        agenda.found(below);
    }
    packer.archive.finish().map_err(PackError::Sink)?;
    Ok(packer.report)
}

struct Packer<'a, W> {
    root: BorrowedFd<'a>,
    device: u64,
    archive: TarWriter<W>,
    /// The first name of each file that has several, and its directory.
    linked: HashMap<u64, (Rc<[u8]>, OsString)>,
    report: TreeReport,
    is_stopped: &'a dyn Fn() -> bool,
}

fn failed(action: &'static str, path: &[u8], error: impl Into<io::Error>) -> PackError {
    PackError::Read { action, path: printable(path), source: error.into() }
}

impl<W: Write> Packer<'_, W> {
    /// One directory with everything in it but the directories, which are returned.
    fn directory(&mut self, path: &Rc<[u8]>) -> Result<Vec<OsString>, PackError> {
        self.go_on()?;
        let directory = match open_directory(self.root, path) {
            // It went, or something else took its place.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => {
                self.report.changed += 1;
                return Ok(Vec::new());
            }
            result => result.map_err(|error| failed("opening", path, error))?,
        };
        let status = fstat(&directory).map_err(|error| failed("reading the status of", path, error))?;
        let name = [if path.is_empty() { b"." } else { &**path }, b"/"].concat();
        let attributes = attributes(directory.as_fd(), path)?;
        self.append(&name, EntryKind::Directory, &status, &attributes)?;
        if status.st_dev != self.device {
            self.report.left_out += 1;
            return Ok(Vec::new());
        }
        let mut below = Vec::new();
        for name in names(&directory).map_err(|error| failed("listing", path, error))? {
            self.go_on()?;
            if self.child(directory.as_fd(), path, &name)? == FileType::Directory {
                below.push(name);
            }
        }
        Ok(below)
    }

    fn go_on(&self) -> Result<(), PackError> {
        if (self.is_stopped)() { Err(PackError::Stopped) } else { Ok(()) }
    }

    /// Whatever has this name; a directory is left to the caller.
    fn child(
        &mut self,
        directory: BorrowedFd<'_>,
        parent: &Rc<[u8]>,
        name: &OsStr,
    ) -> Result<FileType, PackError> {
        let path = child(parent, name);
        if path.len() > PATH_BYTES {
            return Err(PackError::LongPath(printable(&path)));
        }
        let status = match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {
                self.report.changed += 1;
                return Ok(FileType::Unknown);
            }
            result => result.map_err(|error| failed("reading the status of", &path, error))?,
        };
        let kind = FileType::from_raw_mode(status.st_mode);
        match kind {
            FileType::Directory => {}
            FileType::RegularFile => self.file(directory, parent, name, &path)?,
            FileType::Symlink => {
                let target = match readlinkat(directory, name, Vec::new()) {
                    Err(Errno::NOENT | Errno::INVAL) => {
                        self.report.changed += 1;
                        return Ok(FileType::Unknown);
                    }
                    result => result.map_err(|error| failed("reading the link", &path, error))?,
                };
                self.append(&path, EntryKind::SymbolicLink { target: target.into_bytes() }, &status, &[])?;
            }
            FileType::Fifo => self.append(&path, EntryKind::Fifo, &status, &[])?,
            _ => self.report.left_out += 1,
        }
        Ok(kind)
    }

    fn file(
        &mut self,
        directory: BorrowedFd<'_>,
        parent: &Rc<[u8]>,
        name: &OsStr,
        path: &[u8],
    ) -> Result<(), PackError> {
        // Not blocking: it may have become a pipe since it was looked at.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match openat(directory, name, flags, Mode::empty()) {
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => {
                self.report.changed += 1;
                return Ok(());
            }
            result => File::from(result.map_err(|error| failed("opening", path, error))?),
        };
        let status = fstat(&file).map_err(|error| failed("reading the status of", path, error))?;
        if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
            self.report.changed += 1;
            return Ok(());
        }
        if status.st_nlink > 1 {
            if let Some((first, its_name)) = self.linked.get(&status.st_ino) {
                let kind = EntryKind::HardLink { target: child(first, its_name) };
                return self.append(path, kind, &status, &[]);
            }
            self.linked.insert(status.st_ino, (Rc::clone(parent), name.to_owned()));
        }
        let attributes = attributes(file.as_fd(), path)?;
        let size = u64::try_from(status.st_size).unwrap_or(0);
        match pieces(&file, size).map_err(|error| failed("looking for holes in", path, error))? {
            None => self.plain(path, &status, size, &attributes, &file),
            Some(map) => self.sparse(path, &status, size, &attributes, &file, map),
        }
    }

    fn append(
        &mut self,
        path: &[u8],
        kind: EntryKind,
        status: &Stat,
        attributes: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<(), PackError> {
        let records = [time(status)];
        let entry = entry(path, kind, 0, status, attributes, &records);
        self.report.entries += 1;
        self.archive.append(&entry, io::empty()).map_err(PackError::Sink)
    }

    fn plain(
        &mut self,
        path: &[u8],
        status: &Stat,
        size: u64,
        attributes: &[(Vec<u8>, Vec<u8>)],
        file: &File,
    ) -> Result<(), PackError> {
        let records = [time(status)];
        let entry = entry(path, EntryKind::File, size, status, attributes, &records);
        self.data(&entry, size, &mut file.take(size), (file, status))
    }

    fn sparse(
        &mut self,
        path: &[u8],
        status: &Stat,
        size: u64,
        attributes: &[(Vec<u8>, Vec<u8>)],
        file: &File,
        map: Map,
    ) -> Result<(), PackError> {
        let text = write_map(&map);
        let data: u64 = map.iter().map(|(_, length)| length).sum();
        let records = [
            time(status),
            ("GNU.sparse.major", b"1".to_vec()),
            ("GNU.sparse.minor", b"0".to_vec()),
            ("GNU.sparse.name", path.to_vec()),
            ("GNU.sparse.realsize", size.to_string().into_bytes()),
        ];
        // What readers show that do not know the format.
        let shown = b"GNUSparseFile.0/data";
        let stored = text.len() as u64 + data;
        let entry = entry(shown, EntryKind::File, stored, status, attributes, &records);
        let mut pieces = text.as_slice().chain(Pieces { file, map: map.into_iter(), left: 0 });
        self.data(&entry, stored, &mut pieces, (file, status))
    }

    /// Writes an entry with its data; what a file has lost meanwhile is made up with zeros. `before` is the file and its
    /// status as it was before its data was looked at.
    fn data(
        &mut self,
        entry: &NewEntry<'_>,
        size: u64,
        data: &mut dyn Read,
        (file, before): (&File, &Stat),
    ) -> Result<(), PackError> {
        let mut source =
            Source { data, failure: None, given: 0, is_stopped: self.is_stopped, stopped: false };
        let written = self.archive.append(entry, (&mut source).chain(io::repeat(0)));
        let Source { failure, given, stopped, .. } = source;
        self.report.entries += 1;
        self.report.bytes += given;
        match (written, failure) {
            (_, _) if stopped => return Err(PackError::Stopped),
            (_, Some(error)) => return Err(failed("reading", entry.path, error)),
            (written, None) => written.map_err(PackError::Sink)?,
        }
        let after = fstat(file).map_err(|error| failed("reading the status of", entry.path, error))?;
        self.report.changed += u64::from(given < size || marks(before) != marks(&after));
        Ok(())
    }
}

fn entry<'a>(
    path: &'a [u8],
    kind: EntryKind,
    size: u64,
    status: &Stat,
    attributes: &'a [(Vec<u8>, Vec<u8>)],
    records: &'a [(&'static str, Vec<u8>)],
) -> NewEntry<'a> {
    NewEntry {
        path,
        kind,
        size,
        mode: status.st_mode & 0o7777,
        user: status.st_uid,
        group: status.st_gid,
        modified: u64::try_from(status.st_mtime).unwrap_or(0),
        attributes,
        records,
    }
}

/// What whoever changes a file changes of its status, as finely as its file system tells times.
fn marks(status: &Stat) -> impl PartialEq + use<> {
    (status.st_size, status.st_mtime, status.st_mtime_nsec, status.st_ctime, status.st_ctime_nsec)
}

/// The time with its nanoseconds: a header has whole seconds since 1970 only.
fn time(status: &Stat) -> (&'static str, Vec<u8>) {
    let (seconds, nanoseconds) = (status.st_mtime, status.st_mtime_nsec);
    let text = match (seconds < 0, nanoseconds) {
        (_, 0) => seconds.to_string(),
        (false, _) => format!("{seconds}.{nanoseconds:09}"),
        // The fraction of a negative number goes the other way.
        (true, _) => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds),
    };
    ("mtime", text.into_bytes())
}

/// Names and values.
type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// Extended attributes that belong into an archive.
fn attributes(file: BorrowedFd<'_>, path: &[u8]) -> Result<Attributes, PackError> {
    let failed = |error| failed("reading the extended attributes of", path, error);
    // As large as the kernel lets them be (xattr(7)).
    let mut names = vec![0; 64 << 10];
    let length = match flistxattr(file, names.as_mut_slice()) {
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        result => result.map_err(failed)?,
    };
    names.truncate(length);
    let mut attributes = Vec::new();
    let (mut value, mut bytes) = (vec![0; 64 << 10], 0);
    for name in names.split(|byte| *byte == 0).filter(|name| is_kept_in_trees(name)) {
        let length = match fgetxattr(file, OsStr::from_bytes(name), value.as_mut_slice()) {
            Err(Errno::NODATA) => continue,
            result => result.map_err(failed)?,
        };
        bytes += name.len() + length;
        if bytes > TREE_ATTRIBUTE_BYTES {
            return Err(PackError::ManyAttributes(printable(path)));
        }
        attributes.push((name.to_vec(), value[..length].to_vec()));
    }
    attributes.sort();
    Ok(attributes)
}
