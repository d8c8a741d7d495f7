//! Applies the entries of one archive, one after the other.
//!
//! - `content`: the data of files. `directories`: what is set on directories at the end.
//! - `whiteout`: what hides things of lower layers. `failure`: why an entry was not applied.

mod content;
mod directories;
mod failure;
mod whiteout;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, chmodat, chownat,
    fchmod, fchown, fstat, futimens, linkat, mkdirat, mknodat, openat, statat, symlinkat, unlinkat,
    utimensat,
};
use rustix::io::Errno;

use crate::error::{ImageError, LimitKind, Refusal, printable};
use crate::limits::Limits;
use crate::spool::check_space;
use crate::tar::{Entry, EntryKind};

use self::directories::{Directories, is_left_to_the_end};
use self::failure::{During as _, Failure};
use self::whiteout::{WHITEOUT_PREFIX, is_whiteout, make_opaque};
use super::attributes::{self, ACCESS_LIST, AttributeError, Kept, mode_without_list};
use super::entry_path::{EntryPath, PathError, check_text};
use super::root::Root;
use super::{Rules, UnpackReport};

/// Inodes between two looks at the free space.
const SPACE_CHECK_INODES: u64 = 4096;

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
    /// How many inodes there were at the last look at the free space.
    checked_inodes: u64,
    directories: Directories,
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
            checked_inodes: 0,
            directories: Directories::default(),
            buffer: vec![0; 128 << 10],
        };
        fchmod(extractor.root.as_fd(), Mode::from_raw_mode(0o755))
            .map_err(|error| ImageError::io("setting the mode of", root, error))?;
        Ok(extractor)
    }

    /// Applies one entry; its data is read from `data`.
    pub(crate) fn apply(&mut self, entry: Entry, data: &mut impl Read) -> Result<(), ImageError> {
        self.report.entries += 1;
        self.apply_unnamed(&entry, data).map_err(|failure| self.name_failure(failure, &entry))?;
        self.check_quantity()
    }

    /// Sets what is left to do on directories.
    pub(crate) fn finish(mut self) -> Result<UnpackReport, ImageError> {
        match self.directories.finish(self.root.as_fd()) {
            Ok(left_out) => self.report.attributes_left_out += left_out,
            Err(AttributeError::Refused(refusal)) => {
                let (place, entry) = (self.place.to_owned(), "a directory".to_owned());
                return Err(ImageError::Entry { place, entry, refusal });
            }
            // Links have led deeper than any path does.
            Err(AttributeError::Kernel(Errno::NAMETOOLONG)) => {
                let most = self.limits.path_bytes as u64;
                return Err(ImageError::limit(self.place, LimitKind::PathBytes, most));
            }
            Err(AttributeError::Kernel(errno)) => {
                return Err(ImageError::io("finishing the directories in", &self.path, errno));
            }
        }
        Ok(self.report)
    }

    /// Directories that no entry describes are made, too, where a path needs them: they count as the entries do.
    fn check_quantity(&mut self) -> Result<(), ImageError> {
        let inodes = self.report.entries.saturating_add(self.root.made());
        if inodes > self.limits.layer_entries {
            return Err(ImageError::limit(self.place, LimitKind::Entries, self.limits.layer_entries));
        }
        if inodes - self.checked_inodes >= SPACE_CHECK_INODES {
            self.checked_inodes = inodes;
            check_space(self.root.as_fd(), &self.path, self.limits.disk_reserve_bytes)?;
        }
        Ok(())
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
        if self.rules == Rules::Tree && entry.has_text_lists {
            return Err(Refusal::TextLists.into());
        }
        self.count_attributes(entry)?;
        let path = EntryPath::parse(self.within(&entry.path), self.limits)?;
        let Some((parent, name)) = path.split() else { return self.describe_root(entry) };
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
            EntryKind::Directory => self.directory(entry, parent, name),
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

    /// A name as it counts from the root: in an archive of a tree, one that begins with a slash is without it, as `tar` has it.
    fn within<'n>(&self, name: &'n [u8]) -> &'n [u8] {
        let slashes = name.iter().take_while(|byte| **byte == b'/').count();
        match (self.rules, name.get(slashes..).unwrap_or_default()) {
            (Rules::Layer, _) => name,
            (_, []) if slashes > 0 => b".",
            (_, rest) => rest,
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

    fn describe_root(&mut self, entry: &Entry) -> Result<(), Failure> {
        if entry.kind != EntryKind::Directory {
            return Err(Refusal::RootNotDirectory.into());
        }
        let root = self.root.open_directory(&[]).during("opening")?;
        self.describe_directory(entry, root)
    }

    fn directory(&mut self, entry: &Entry, parent: &[OsString], name: &OsStr) -> Result<(), Failure> {
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
        self.describe_directory(entry, directory)
    }

    /// Owner and attributes now, everything else at the end.
    fn describe_directory(&mut self, entry: &Entry, directory: OwnedFd) -> Result<(), Failure> {
        let (user, group) = owner(entry)?;
        fchown(&directory, Some(user), Some(group)).during("setting the owner of")?;
        let mode = self.set_attributes(entry, directory.as_fd())?;
        let inode = fstat(&directory).during("reading the status of")?.st_ino;
        self.directories.describe(inode, entry, mode, self.rules)
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
        let mode = self.set_attributes(entry, file.as_fd())?;
        fchmod(&file, Mode::from_raw_mode(mode)).during("setting the mode of")?;
        futimens(&file, &times(modified(entry))).during("setting the time of")
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
        let list = entry.attributes.iter().find(|(name, _)| self.rules == Rules::Tree && name == ACCESS_LIST);
        let mode = list.map_or(entry.mode, |(_, list)| mode_without_list(entry.mode, list));
        let holder = self.vacate(parent, name)?;
        mknodat(holder, name, FileType::Fifo, Mode::from_raw_mode(0o600), 0).during("creating")?;
        describe_unopened(holder, name, owner, entry)?;
        // Nothing else changes the layer meanwhile, so the name is still the pipe made above and no link.
        chmodat(holder, name, Mode::from_raw_mode(mode), AtFlags::empty()).during("setting the mode of")
    }

    fn hard_link(&mut self, parent: &[OsString], name: &OsStr, target: &[u8]) -> Result<(), Failure> {
        let shown = || printable(target);
        let path = EntryPath::parse(self.within(target), self.limits).map_err(|error| match error {
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

    /// Returns the mode that suits what was set: without its access control list an entry's own would allow too much.
    fn set_attributes(&mut self, entry: &Entry, object: BorrowedFd<'_>) -> Result<u32, Failure> {
        let is_directory = entry.kind == EntryKind::Directory;
        let mut mode = entry.mode;
        for (name, value) in &entry.attributes {
            if is_directory && is_left_to_the_end(self.rules, name) {
                continue;
            }
            if attributes::set(object, self.rules, name, value)? == Kept::LeftOut {
                self.report.attributes_left_out += 1;
                if self.rules == Rules::Tree && name == ACCESS_LIST {
                    mode = mode_without_list(mode, value);
                }
            }
        }
        Ok(mode)
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
