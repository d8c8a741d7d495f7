//! SELinux labels of a whole tree.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

use rustix::fs::{
    FileType, Mode, OFlags, ResolveFlags, XattrFlags, fgetxattr, fsetxattr, fstat, openat2, setxattr,
};
use rustix::io::Errno;

use crate::unpack::root::retry;
use crate::walk::{Agenda, names, open_directory};

const ATTRIBUTE: &str = "security.selinux";
/// Far more than any label has.
const LONGEST: usize = 4096;

/// Gives everything below the directory `root`, and then `root` itself, an SELinux label; what is mounted in it keeps its own.
/// Nothing if `root` has the label already: it gets it last, so that all below it has it then, or has come later. Nothing
/// either on a file system without labels.
///
/// # Errors
/// If something cannot be read or labelled.
pub fn set_label(root: BorrowedFd<'_>, label: &str) -> io::Result<()> {
    if has(root, label) {
        return Ok(());
    }
    let device = fstat(root)?.st_dev;
    let mut agenda = Agenda::default();
    while let Some(path) = agenda.next() {
        let directory = match open_directory(root, &path) {
            // It went, or something else took its place; or nobody reaches it by its path.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::NAMETOOLONG) => continue,
            result => result?,
        };
        if fstat(&directory)?.st_dev != device {
            continue;
        }
        let mut below = Vec::new();
        for name in names(&directory)? {
            if set(directory.as_fd(), &name, label)? == FileType::Directory {
                below.push(name);
            }
        }
        agenda.found(below);
    }
    unsupported_is_fine(fsetxattr(root, ATTRIBUTE, label.as_bytes(), XattrFlags::empty()))
}

/// The kernel ends what it tells with a zero byte.
fn has(file: BorrowedFd<'_>, label: &str) -> bool {
    let mut told = vec![0; LONGEST];
    let length = fgetxattr(file, ATTRIBUTE, &mut told).unwrap_or(0);
    told[..length].strip_suffix(&[0]).unwrap_or(&told[..length]) == label.as_bytes()
}

/// Labels one entry of a directory, whatever it is, also a link itself: somebody may put another thing in its place at any
/// moment, so it is opened first.
fn set(directory: BorrowedFd<'_>, name: &OsStr, label: &str) -> io::Result<FileType> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV;
    let entry = match retry(|| openat2(directory, name, flags, Mode::empty(), resolve)) {
        Err(Errno::NOENT | Errno::XDEV) => return Ok(FileType::Unknown),
        result => result?,
    };
    // Descriptors of paths take no attributes themselves.
    let path = format!("/proc/self/fd/{}", entry.as_raw_fd());
    unsupported_is_fine(setxattr(path, ATTRIBUTE, label.as_bytes(), XattrFlags::empty()))?;
    Ok(FileType::from_raw_mode(fstat(&entry)?.st_mode))
}

fn unsupported_is_fine(result: rustix::io::Result<()>) -> io::Result<()> {
    match result {
        Err(Errno::OPNOTSUPP) => Ok(()),
        result => Ok(result?),
    }
}
