//! Removes what a container, an image or an archive has left on disk, however it is made.
//!
//! Nobody bounds how deep such a tree is: a program may make a directory, enter it, and go on. The standard library's
//! `remove_dir_all` takes a descriptor and a piece of the stack for each level, so a tree of some thousand levels ends the
//! process, or leaves it without descriptors. Here both are bounded: what lies too deep is first moved up.

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, openat2, renameat, unlinkat};
use rustix::io::Errno;

/// Levels below the top that are entered; two descriptors each. Only what is below them is moved.
const DEEPEST: usize = 32;

/// Removes a directory with everything in it, or a file, or a link and not what it leads to. Nobody else may change it
/// meanwhile. What is mounted somewhere in it belongs to somebody else, and stays.
///
/// # Errors
/// [`io::ErrorKind::NotFound`] if there is nothing; [`io::ErrorKind::CrossesDevices`] where something is mounted in it;
/// otherwise the first refusal of the kernel. A part may be left then.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let flags = ResolveFlags::empty();
    let top = match open(CWD, path, flags) {
        Err(Errno::NOTDIR | Errno::LOOP) => return Ok(unlinkat(CWD, path, AtFlags::empty())?),
        result => result?,
    };
    let mut removal = Removal { top: top.as_fd(), moved: 0 };
    loop {
        let before = removal.moved;
        removal.clear(&top, 0)?;
        // What was moved up meanwhile may have been missed.
        if removal.moved == before {
            break;
        }
    }
    Ok(unlinkat(CWD, path, AtFlags::REMOVEDIR)?)
}

fn open(
    parent: BorrowedFd<'_>,
    name: impl rustix::path::Arg,
    resolve: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat2(parent, name, flags, Mode::empty(), resolve)
}

fn mounted(parent: &OwnedFd, name: &CStr) -> io::Error {
    let folder = std::fs::read_link(format!("/proc/self/fd/{}", parent.as_raw_fd())).unwrap_or_default();
    let path = folder.join(OsStr::from_bytes(name.to_bytes()));
    let message = format!("something is mounted at {}; unmount it", path.display());
    io::Error::new(io::ErrorKind::CrossesDevices, message)
}

struct Removal<'a> {
    top: BorrowedFd<'a>,
    /// Directories that were moved up, and names that were taken.
    moved: u64,
}

impl Removal<'_> {
    /// Removes everything in a directory at this depth.
    fn clear(&mut self, directory: &OwnedFd, depth: usize) -> io::Result<()> {
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            match entry.file_type() {
                FileType::Directory => self.directory(directory, name, depth)?,
                // Some file systems do not say.
                FileType::Unknown => match unlinkat(directory, name, AtFlags::empty()) {
                    Err(Errno::ISDIR | Errno::PERM) => self.directory(directory, name, depth)?,
                    result => result?,
                },
                _ => match unlinkat(directory, name, AtFlags::empty()) {
                    Err(Errno::BUSY) => return Err(mounted(directory, name)),
                    result => result?,
                },
            }
        }
        Ok(())
    }

    fn directory(&mut self, parent: &OwnedFd, name: &CStr, depth: usize) -> io::Result<()> {
        if depth == DEEPEST {
            return Ok(self.move_up(parent, name)?);
        }
        // A folder of the host that a program has bound here must not be emptied.
        let directory = match open(parent.as_fd(), name, ResolveFlags::NO_XDEV) {
            Err(Errno::XDEV) => return Err(mounted(parent, name)),
            result => result?,
        };
        self.clear(&directory, depth + 1)?;
        Ok(unlinkat(parent, name, AtFlags::REMOVEDIR)?)
    }

    /// To the top, under a name that is free there; if there is an empty directory of that name, it goes.
    fn move_up(&mut self, parent: &OwnedFd, name: &CStr) -> rustix::io::Result<()> {
        loop {
            self.moved += 1;
            match renameat(parent, name, self.top, format!(".moved-{}", self.moved)) {
                Err(Errno::NOTDIR | Errno::NOTEMPTY | Errno::EXIST) => {}
                result => return result,
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::mkdirat;

    use super::*;

    /// As a program in a container would make it.
    fn nest(top: &Path, levels: usize) {
        fs::create_dir(top).unwrap();
        let mut here = open(CWD, top, ResolveFlags::empty()).unwrap();
        for _ in 0..levels {
            mkdirat(&here, "d", Mode::from_raw_mode(0o755)).unwrap();
            here = open(here.as_fd(), "d", ResolveFlags::empty()).unwrap();
        }
    }

    #[test]
    fn a_tree_of_any_depth_goes_with_little_stack_and_few_descriptors() {
        // In memory: on some disks each directory takes milliseconds.
        let place = tempfile::tempdir_in("/dev/shm").unwrap();
        let top = place.path().join("top");
        nest(&top, 40_000);
        // Names that would be chosen for what is moved.
        fs::write(top.join(".moved-1"), "").unwrap();
        fs::create_dir_all(top.join(".moved-2/full")).unwrap();
        fs::create_dir(top.join(".moved-3")).unwrap();
        let small = std::thread::Builder::new().stack_size(256 << 10);
        let removed = small.spawn({
            let top = top.clone();
            move || remove_tree(&top)
        });
        removed.unwrap().join().unwrap().unwrap();
        assert!(!top.exists());
    }

    #[test]
    fn what_is_mounted_in_it_stays() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: mounting needs root");
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let (top, other) = (place.path().join("top"), place.path().join("other"));
        for folder in [&top.join("rootfs/data"), &other] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::write(other.join("kept"), "").unwrap();
        fs::write(top.join("rootfs/file"), "").unwrap();
        for (from, to) in [(&other, "rootfs/data"), (&other.join("kept"), "rootfs/file")] {
            rustix::mount::mount_bind(from, top.join(to)).unwrap();
        }
        for at in ["rootfs/data", "rootfs/file"] {
            let error = remove_tree(&top).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::CrossesDevices, "{error}");
            assert!(error.to_string().contains("is mounted at") && other.join("kept").exists(), "{error}");
            rustix::mount::unmount(top.join(at), rustix::mount::UnmountFlags::DETACH).unwrap();
        }
        remove_tree(&top).unwrap();
        assert!(!top.exists() && other.join("kept").exists());
    }

    #[test]
    fn everything_in_it_goes_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let (top, other) = (place.path().join("top"), place.path().join("other"));
        fs::create_dir_all(top.join("a/b/c")).unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(other.join("kept"), "").unwrap();
        fs::write(top.join("a/file"), "").unwrap();
        symlink(&other, top.join("a/link")).unwrap();
        symlink("nowhere", top.join("broken")).unwrap();
        for number in 0..3000 {
            fs::write(top.join(format!("a/b/{number}")), "").unwrap();
        }
        symlink(&top, place.path().join("to-top")).unwrap();
        remove_tree(&place.path().join("to-top")).unwrap();
        assert!(top.join("a/file").exists(), "only the link goes");
        remove_tree(&top).unwrap();
        assert!(!top.exists() && other.join("kept").exists());
        assert_eq!(remove_tree(&top).unwrap_err().kind(), io::ErrorKind::NotFound);
        remove_tree(&other.join("kept")).unwrap();
        assert_eq!(fs::read_dir(&other).unwrap().count(), 0);
    }
}
