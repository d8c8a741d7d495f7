//! What hides things of lower layers: archives say it with names, overlayfs with device nodes and attributes.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{FileType, Mode, OFlags, Stat, XattrFlags, fsetxattr, makedev, mknodat, openat};

use crate::error::Refusal;
use crate::tar::{Entry, EntryKind};

use super::failure::{During as _, Failure};
use super::{Extractor, is_type, status};

/// What the archive convention puts before the name of something a layer removes (OCI image specification, "Whiteouts").
pub(super) const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// The marker that hides everything lower layers have in its directory.
const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";
/// Other names aufs kept for itself; they describe nothing that overlayfs has.
const RESERVED_PREFIX: &[u8] = b".wh..wh.";
/// How overlayfs marks an opaque directory (kernel, Documentation/filesystems/overlayfs.rst).
const OPAQUE_ATTRIBUTE: &str = "trusted.overlay.opaque";

impl Extractor<'_> {
    /// Applies an entry whose name is a marker.
    pub(super) fn whiteout(
        &mut self,
        entry: &Entry,
        parent: &[OsString],
        marker: &OsStr,
    ) -> Result<(), Failure> {
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
}

/// Hides everything that lower layers have in the directory.
pub(super) fn make_opaque(directory: BorrowedFd<'_>) -> Result<(), Failure> {
    fsetxattr(directory, OPAQUE_ATTRIBUTE, b"y", XattrFlags::empty())
        .during("marking as opaque the directory of")
}

/// Whether this is what hides a name.
pub(super) fn is_whiteout(found: &Stat) -> bool {
    is_type(found, FileType::CharacterDevice) && found.st_rdev == makedev(0, 0)
}
