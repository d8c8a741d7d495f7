//! The one way to a place inside a layer's directory: descriptors, resolved by the kernel below the root.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, fchmod, mkdirat, openat, openat2};
use rustix::io::Errno;

use crate::error::{ImageError, Refusal};

use super::entry_path::join;

/// Mode of directories no entry describes.
const IMPLICIT_MODE: u32 = 0o755;

/// Why a parent cannot be used.
#[derive(Debug)]
pub(crate) enum ParentError {
    Refused(Refusal),
    Kernel(Errno),
}

/// The root directory of a layer.
#[derive(Debug)]
pub(crate) struct Root {
    directory: OwnedFd,
    /// The parent used last: archives list the entries of a directory together.
    last: Option<(Vec<OsString>, OwnedFd)>,
    /// Directories made that no entry described by then.
    made: u64,
}

impl Root {
    pub(crate) fn open(path: &Path) -> Result<Self, ImageError> {
        let directory = File::open(path).map_err(|error| ImageError::io("opening", path, error))?;
        Ok(Self { directory: directory.into(), last: None, made: 0 })
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// The existing directory `components`, links in it resolved inside the root.
    pub(crate) fn open_directory(&self, components: &[OsString]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        retry(|| openat2(&self.directory, join(components), flags, Mode::empty(), in_root()))
    }

    /// How many directories were made because a path needed them.
    pub(crate) fn made(&self) -> u64 {
        self.made
    }

    /// The directory `components`, made where it is missing.
    pub(crate) fn parent(&mut self, components: &[OsString]) -> Result<BorrowedFd<'_>, ParentError> {
        let is_cached = self.last.as_ref().is_some_and(|(known, _)| known == components);
        if !is_cached {
            let directory = match self.open_directory(components) {
                Err(Errno::NOENT) => self.create_parents(components)?,
                other => other.map_err(parent_error)?,
            };
            self.last = Some((components.to_vec(), directory));
        }
        Ok(self.last.as_ref().map_or(self.directory.as_fd(), |(_, directory)| directory.as_fd()))
    }

    /// Forgets the cached parent; needed when a link may now lead elsewhere.
    pub(crate) fn forget_parent(&mut self) {
        self.last = None;
    }

    fn create_parents(&mut self, components: &[OsString]) -> Result<OwnedFd, ParentError> {
        let mut directory = self.open_directory(&[]).map_err(ParentError::Kernel)?;
        for (index, name) in components.iter().enumerate() {
            directory = match self.open_directory(&components[..=index]) {
                Err(Errno::NOENT) => {
                    let made = create_directory(directory.as_fd(), name)?;
                    self.made += 1;
                    made
                }
                other => other.map_err(parent_error)?,
            };
        }
        Ok(directory)
    }
}

/// Makes one missing parent. If something is there after all, it is a link that leads nowhere.
fn create_directory(parent: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, ParentError> {
    match mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
        Err(Errno::EXIST) => return Err(ParentError::Refused(Refusal::ParentLink)),
        other => other.map_err(ParentError::Kernel)?,
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(parent, name, flags, Mode::empty()).map_err(ParentError::Kernel)?;
    fchmod(&directory, Mode::from_raw_mode(IMPLICIT_MODE)).map_err(ParentError::Kernel)?;
    Ok(directory)
}

fn parent_error(error: Errno) -> ParentError {
    match error {
        Errno::NOTDIR => ParentError::Refused(Refusal::ParentNotDirectory),
        Errno::LOOP | Errno::XDEV | Errno::NOENT | Errno::NAMETOOLONG => {
            ParentError::Refused(Refusal::ParentLink)
        }
        other => ParentError::Kernel(other),
    }
}

fn in_root() -> ResolveFlags {
    ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV
}

/// Tries again what `openat2` gives up: it says EAGAIN when a rename elsewhere on the host raced with a `..` in a link, openat2(2).
///
/// # Errors
/// Those of the attempt; of the hundredth at last.
pub fn retry<T>(mut attempt: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    const ATTEMPTS: usize = 100;
    for _ in 1..ATTEMPTS {
        match attempt() {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    attempt()
}
