//! Applies the entries of one layer, one after the other.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek as _, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chmodat,
    chownat, fchmod, fchown, fsetxattr, fstat, futimens, linkat, makedev, mkdirat, mknodat, openat, statat,
    symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use crate::error::{ImageError, LimitKind, Refusal, printable};
use crate::limits::Limits;
use crate::spool::check_space;
use crate::tar::{Entry, EntryKind};

use super::attributes::{self, AttributeError, Kept};
use super::entry_path::{EntryPath, PathError, check_text};
use super::root::{ParentError, Root};
use super::sparse;
use super::{Rules, UnpackReport};

/// What the archive convention puts before the name of something a layer removes (OCI image specification, "Whiteouts").
const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// The marker that hides everything lower layers have in its directory.
const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";
/// Other names aufs kept for itself; they describe nothing that overlayfs has.
const RESERVED_PREFIX: &[u8] = b".wh..wh.";
/// How overlayfs marks an opaque directory (kernel, Documentation/filesystems/overlayfs.rst).
const OPAQUE_ATTRIBUTE: &str = "trusted.overlay.opaque";
/// Bytes of file data, and entries, between two looks at the free space.
const SPACE_CHECK_BYTES: u64 = 64 << 20;
const SPACE_CHECK_ENTRIES: u64 = 4096;

/// What is set on directories when everything else is done.
struct PendingDirectory {
    components: Vec<OsString>,
    mode: u32,
    modified: Timespec,
}

/// An entry is refused, or the kernel refused something for it.
enum Failure {
    Refused(Refusal),
    Limit(LimitKind, u64),
    Kernel(&'static str, Errno),
    Image(ImageError),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<PathError> for Failure {
    fn from(error: PathError) -> Self {
        match error {
            PathError::Refused(refusal) => Self::Refused(refusal),
            PathError::Limit(kind, allowed) => Self::Limit(kind, allowed),
        }
    }
}

impl From<ParentError> for Failure {
    fn from(error: ParentError) -> Self {
        match error {
            ParentError::Refused(refusal) => Self::Refused(refusal),
            ParentError::Kernel(errno) => Self::Kernel("opening the parent of", errno),
        }
    }
}

impl From<AttributeError> for Failure {
    fn from(error: AttributeError) -> Self {
        match error {
            AttributeError::Refused(refusal) => Self::Refused(refusal),
            AttributeError::Kernel(errno) => Self::Kernel("setting an extended attribute of", errno),
        }
    }
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Self {
        Self::Image(error)
    }
}

/// Names a failed system call.
trait During<T> {
    fn during(self, action: &'static str) -> Result<T, Failure>;
}

impl<T> During<T> for Result<T, Errno> {
    fn during(self, action: &'static str) -> Result<T, Failure> {
        self.map_err(|errno| Failure::Kernel(action, errno))
    }
}

/// Extracts into one directory.
pub(crate) struct Extractor<'a> {
    root: Root,
    rules: Rules,
    path: PathBuf,
    place: &'a str,
    limits: &'a Limits,
    report: UnpackReport,
    attribute_bytes: u64,
    unchecked_bytes: u64,
    /// By inode, so that a directory reached by two names is finished once, with what came last.
    directories: BTreeMap<u64, PendingDirectory>,
    buffer: Vec<u8>,
}

impl<'a> Extractor<'a> {
    /// `root` is an existing empty directory; `place` names the layer in errors.
    pub(crate) fn new(
        root: &Path,
        rules: Rules,
        place: &'a str,
        limits: &'a Limits,
    ) -> Result<Self, ImageError> {
        let extractor = Self {
            root: Root::open(root)?,
            rules,
            path: root.to_owned(),
            place,
            limits,
            report: UnpackReport::default(),
            attribute_bytes: 0,
            unchecked_bytes: 0,
            directories: BTreeMap::new(),
            buffer: vec![0; 128 << 10],
        };
        fchmod(extractor.root.as_fd(), Mode::from_raw_mode(0o755))
            .map_err(|error| ImageError::io("setting the mode of", root, error))?;
        Ok(extractor)
    }

    /// Applies one entry; its data is read from `data`.
    pub(crate) fn apply(&mut self, entry: Entry, data: &mut impl Read) -> Result<(), ImageError> {
        self.report.entries += 1;
        if self.report.entries > self.limits.layer_entries {
            return Err(ImageError::limit(self.place, LimitKind::Entries, self.limits.layer_entries));
        }
        if self.report.entries.is_multiple_of(SPACE_CHECK_ENTRIES) {
            check_space(self.root.as_fd(), &self.path, self.limits.disk_reserve_bytes)?;
        }
        self.apply_unnamed(&entry, data).map_err(|failure| self.name_failure(failure, &entry))
    }

    /// Sets modes and times of directories.
    pub(crate) fn finish(self) -> Result<UnpackReport, ImageError> {
        let failed =
            |error: Errno| ImageError::io("setting mode and time of a directory in", &self.path, error);
        // The deepest first, so that a directory's own time is not touched after it was set.
        let mut directories: Vec<_> = self.directories.iter().collect();
        directories.sort_by_key(|(_, directory)| std::cmp::Reverse(directory.components.len()));
        for (inode, pending) in directories {
            let handle = self.root.open_directory_itself(&pending.components).map_err(failed)?;
            // A link on the way was replaced meanwhile: leave what is now there alone.
            if fstat(&handle).map_err(failed)?.st_ino != *inode {
                continue;
            }
            fchmod(&handle, Mode::from_raw_mode(pending.mode)).map_err(failed)?;
            futimens(&handle, &times(pending.modified)).map_err(failed)?;
        }
        Ok(self.report)
    }

    fn name_failure(&self, failure: Failure, entry: &Entry) -> ImageError {
        let (place, name) = (self.place.to_owned(), printable(&entry.path));
        match failure {
            Failure::Refused(refusal) => ImageError::Entry { place, entry: name, refusal },
            Failure::Limit(kind, allowed) => {
                ImageError::limit(format!("entry {name:?} of {place}"), kind, allowed)
            }
            Failure::Kernel(action, errno) => {
                ImageError::io(action, self.path.join(OsStr::from_bytes(&entry.path)), errno)
            }
            Failure::Image(error) => error,
        }
    }

    fn apply_unnamed(&mut self, entry: &Entry, data: &mut impl Read) -> Result<(), Failure> {
        self.count_attributes(entry)?;
        let path = EntryPath::parse(&entry.path, self.limits)?;
        let Some((parent, name)) = path.split() else { return self.describe_root(entry, &path) };
        if self.rules == Rules::Layer {
            // As a directory on the way the name would collide with what whiteouts turn into.
            if parent.iter().any(|component| component.as_bytes().starts_with(WHITEOUT_PREFIX)) {
                return Err(Refusal::Whiteout("the name of a directory starts with .wh.").into());
            }
            if name.as_bytes().starts_with(WHITEOUT_PREFIX) {
                return self.whiteout(entry, parent, name);
            }
        }
        match &entry.kind {
            EntryKind::Directory => self.directory(entry, &path, parent, name),
            EntryKind::File => self.file(entry, parent, name, data),
            EntryKind::SymbolicLink { target } => self.symbolic_link(entry, parent, name, target),
            EntryKind::HardLink { target } => self.hard_link(parent, name, target),
            EntryKind::Fifo => self.fifo(entry, parent, name),
            EntryKind::Device => {
                self.report.entries_left_out += 1;
                Ok(())
            }
        }
    }

    fn count_attributes(&mut self, entry: &Entry) -> Result<(), Failure> {
        let bytes: usize = entry.attributes.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > self.limits.entry_attribute_bytes {
            return Err(Failure::Limit(
                LimitKind::EntryAttributeBytes,
                self.limits.entry_attribute_bytes as u64,
            ));
        }
        self.attribute_bytes += bytes as u64;
        if self.attribute_bytes > self.limits.layer_attribute_bytes {
            return Err(Failure::Limit(LimitKind::LayerAttributeBytes, self.limits.layer_attribute_bytes));
        }
        Ok(())
    }

    fn describe_root(&mut self, entry: &Entry, path: &EntryPath) -> Result<(), Failure> {
        if entry.kind != EntryKind::Directory {
            return Err(Refusal::RootNotDirectory.into());
        }
        let root = self.root.open_directory(&[]).during("opening")?;
        self.describe_directory(entry, path, root)
    }

    fn directory(
        &mut self,
        entry: &Entry,
        path: &EntryPath,
        parent: &[OsString],
        name: &OsStr,
    ) -> Result<(), Failure> {
        let holder = self.root.parent(parent)?;
        // A whiteout and a directory of one name: the directory, without what lower layers have in it.
        let mut is_opaque = false;
        let exists = match status(holder, name)? {
            Some(found) if is_type(&found, FileType::Directory) => true,
            Some(found) => {
                is_opaque = is_whiteout(&found);
                unlinkat(holder, name, AtFlags::empty()).during("replacing")?;
                false
            }
            None => false,
        };
        if !exists {
            mkdirat(holder, name, Mode::from_raw_mode(0o700)).during("creating")?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = openat(holder, name, flags, Mode::empty()).during("opening")?;
        if !exists {
            self.root.forget_parent();
        }
        if is_opaque {
            make_opaque(directory.as_fd())?;
        }
        self.describe_directory(entry, path, directory)
    }

    /// Owner and attributes now, mode and times at the end.
    fn describe_directory(
        &mut self,
        entry: &Entry,
        path: &EntryPath,
        directory: OwnedFd,
    ) -> Result<(), Failure> {
        let (user, group) = owner(entry)?;
        fchown(&directory, Some(user), Some(group)).during("setting the owner of")?;
        self.set_attributes(entry, directory.as_fd())?;
        let inode = fstat(&directory).during("reading the status of")?.st_ino;
        let pending = PendingDirectory {
            components: path.components().to_vec(),
            mode: entry.mode,
            modified: modified(entry),
        };
        self.directories.insert(inode, pending);
        Ok(())
    }

    fn file(
        &mut self,
        entry: &Entry,
        parent: &[OsString],
        name: &OsStr,
        data: &mut impl Read,
    ) -> Result<(), Failure> {
        let (user, group) = owner(entry)?;
        let holder = self.vacate(parent, name)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file =
            File::from(openat(holder, name, flags, Mode::from_raw_mode(0o600)).during("creating")?);
        match entry.sparse {
            None => self.copy(data, &mut file)?,
            Some(size) => self.expand(entry.size, size, data, &mut file)?,
        }
        // In this order: changing the owner clears set-id bits and capabilities.
        fchown(&file, Some(user), Some(group)).during("setting the owner of")?;
        self.set_attributes(entry, file.as_fd())?;
        fchmod(&file, Mode::from_raw_mode(entry.mode)).during("setting the mode of")?;
        futimens(&file, &times(modified(entry))).during("setting the time of")
    }

    /// Writes what is between the holes of a sparse file of `size` bytes, of which `stored` are in the archive.
    fn expand(
        &mut self,
        stored: u64,
        size: u64,
        data: &mut impl Read,
        file: &mut File,
    ) -> Result<(), Failure> {
        let read = |error| {
            let place = self.place.to_owned();
            ImageError::from_read(error, |source| ImageError::Input { place, source })
        };
        let map = sparse::read_map(data, stored, size).map_err(read)??;
        let failed = |error| ImageError::io("writing a file of", &self.path, error);
        file.set_len(size).map_err(failed)?;
        for (offset, length) in map {
            let failed = |error| ImageError::io("writing a file of", &self.path, error);
            file.seek(io::SeekFrom::Start(offset)).map_err(failed)?;
            self.copy(&mut data.by_ref().take(length), file)?;
        }
        Ok(())
    }

    fn copy(&mut self, data: &mut dyn Read, file: &mut File) -> Result<(), Failure> {
        loop {
            let count = match data.read(&mut self.buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let place = self.place.to_owned();
                    return Err(
                        ImageError::from_read(error, |source| ImageError::Input { place, source }).into()
                    );
                }
            };
            self.unchecked_bytes += count as u64;
            if self.unchecked_bytes >= SPACE_CHECK_BYTES {
                self.unchecked_bytes = 0;
                check_space(self.root.as_fd(), &self.path, self.limits.disk_reserve_bytes)?;
            }
            file.write_all(&self.buffer[..count])
                .map_err(|error| ImageError::io("writing a file of", &self.path, error))?;
            self.report.bytes += count as u64;
        }
    }

    fn symbolic_link(
        &mut self,
        entry: &Entry,
        parent: &[OsString],
        name: &OsStr,
        target: &[u8],
    ) -> Result<(), Failure> {
        check_text(target, self.limits)?;
        if target.is_empty() {
            return Err(Refusal::EmptyTarget.into());
        }
        let owner = owner(entry)?;
        // Nothing can be kept on a link: user attributes are for files and directories only, xattr(7).
        self.report.attributes_left_out += entry.attributes.len() as u64;
        let holder = self.vacate(parent, name)?;
        symlinkat(OsStr::from_bytes(target), holder, name).during("creating")?;
        describe_unopened(holder, name, owner, entry)?;
        self.root.forget_parent();
        Ok(())
    }

    fn fifo(&mut self, entry: &Entry, parent: &[OsString], name: &OsStr) -> Result<(), Failure> {
        let owner = owner(entry)?;
        self.report.attributes_left_out += entry.attributes.len() as u64;
        let holder = self.vacate(parent, name)?;
        mknodat(holder, name, FileType::Fifo, Mode::from_raw_mode(0o600), 0).during("creating")?;
        describe_unopened(holder, name, owner, entry)?;
        // Nothing else changes the layer meanwhile, so the name is still the pipe made above and no link.
        chmodat(holder, name, Mode::from_raw_mode(entry.mode), AtFlags::empty()).during("setting the mode of")
    }

    fn hard_link(&mut self, parent: &[OsString], name: &OsStr, target: &[u8]) -> Result<(), Failure> {
        let shown = || printable(target);
        let path = EntryPath::parse(target, self.limits).map_err(|error| match error {
            PathError::Refused(why) => {
                Failure::Refused(Refusal::LinkTargetPath { target: shown(), why: Box::new(why) })
            }
            limit => limit.into(),
        })?;
        let Some((target_parent, target_name)) = path.split() else {
            return Err(Refusal::LinkTargetType(shown()).into());
        };
        let missing = |error| match error {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV => {
                Refusal::LinkTargetMissing(shown()).into()
            }
            other => Failure::Kernel("opening the hard link target of", other),
        };
        let target_holder = self.root.open_directory(target_parent).map_err(missing)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&target_holder, target_name, flags, Mode::empty()).map_err(missing)?;
        let found = fstat(&file).during("reading the status of the hard link target of")?;
        if !is_type(&found, FileType::RegularFile) {
            return Err(Refusal::LinkTargetType(shown()).into());
        }
        let holder = self.root.parent(parent)?;
        // A link to itself would otherwise remove its own target.
        if status(holder, name)?.is_some_and(|present| present.st_ino == found.st_ino) {
            return Ok(());
        }
        let holder = self.vacate(parent, name)?;
        linkat(&file, "", holder, name, AtFlags::EMPTY_PATH).during("linking")
    }

    fn whiteout(&mut self, entry: &Entry, parent: &[OsString], marker: &OsStr) -> Result<(), Failure> {
        let marker = marker.as_bytes();
        if entry.kind != EntryKind::File || entry.size > 0 {
            return Err(Refusal::Whiteout("it is not an empty regular file").into());
        }
        if marker == OPAQUE_MARKER {
            return make_opaque(self.root.parent(parent)?);
        }
        if marker.starts_with(RESERVED_PREFIX) {
            self.report.entries_left_out += 1;
            return Ok(());
        }
        let name = &marker[WHITEOUT_PREFIX.len()..];
        if matches!(name, b"" | b"." | b"..") {
            return Err(Refusal::Whiteout("it hides no name").into());
        }
        let name = OsStr::from_bytes(name);
        let holder = self.root.parent(parent)?;
        match status(holder, name)? {
            // A whiteout concerns lower layers only; what this layer brings itself stays.
            Some(found) if is_type(&found, FileType::Directory) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let directory = openat(holder, name, flags, Mode::empty()).during("opening")?;
                make_opaque(directory.as_fd())
            }
            Some(_) => Ok(()),
            None => {
                let device = makedev(0, 0);
                mknodat(holder, name, FileType::CharacterDevice, Mode::empty(), device)
                    .during("hiding the name of")
            }
        }
    }

    /// The parent of a new non-directory, with nothing under `name` any more.
    fn vacate(&mut self, parent: &[OsString], name: &OsStr) -> Result<BorrowedFd<'_>, Failure> {
        let present = status(self.root.parent(parent)?, name)?;
        if let Some(present) = present {
            if is_type(&present, FileType::Directory) {
                return Err(Refusal::ReplacesDirectory.into());
            }
            unlinkat(self.root.parent(parent)?, name, AtFlags::empty()).during("replacing")?;
            if is_type(&present, FileType::Symlink) {
                self.root.forget_parent();
            }
        }
        Ok(self.root.parent(parent)?)
    }

    fn set_attributes(&mut self, entry: &Entry, object: BorrowedFd<'_>) -> Result<(), Failure> {
        for (name, value) in &entry.attributes {
            if attributes::set(object, self.rules, name, value)? == Kept::LeftOut {
                self.report.attributes_left_out += 1;
            }
        }
        Ok(())
    }
}

/// Owner and time of what cannot be opened without side effects: links and pipes.
fn describe_unopened(
    holder: BorrowedFd<'_>,
    name: &OsStr,
    owner: (Uid, Gid),
    entry: &Entry,
) -> Result<(), Failure> {
    let itself = AtFlags::SYMLINK_NOFOLLOW;
    chownat(holder, name, Some(owner.0), Some(owner.1), itself).during("setting the owner of")?;
    utimensat(holder, name, &times(modified(entry)), itself).during("setting the time of")
}

fn make_opaque(directory: BorrowedFd<'_>) -> Result<(), Failure> {
    fsetxattr(directory, OPAQUE_ATTRIBUTE, b"y", XattrFlags::empty())
        .during("marking as opaque the directory of")
}

fn status(holder: BorrowedFd<'_>, name: &OsStr) -> Result<Option<Stat>, Failure> {
    match statat(holder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(Failure::Kernel("reading the status of", error)),
    }
}

fn is_type(found: &Stat, wanted: FileType) -> bool {
    FileType::from_raw_mode(found.st_mode) == wanted
}

fn is_whiteout(found: &Stat) -> bool {
    is_type(found, FileType::CharacterDevice) && found.st_rdev == makedev(0, 0)
}

/// The last number means "leave as is" to chown(2).
fn owner(entry: &Entry) -> Result<(Uid, Gid), Refusal> {
    let checked = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX).ok_or(Refusal::Owner(id));
    Ok((Uid::from_raw(checked(entry.user)?), Gid::from_raw(checked(entry.group)?)))
}

fn modified(entry: &Entry) -> Timespec {
    Timespec { tv_sec: entry.modified.0, tv_nsec: i64::from(entry.modified.1) }
}

fn times(modified: Timespec) -> Timestamps {
    Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }, last_modification: modified }
}
