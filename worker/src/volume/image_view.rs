//! What an image has at a path: its layers over each other, seen by one thread for a moment.
//!
//! The thread has a mount namespace of its own, so that neither the host nor a container notices, and nothing is left when
//! the process is killed.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use coracle_daemon::ErrorChain;
use coracle_image::Limits;
use coracle_image::tree::{copy, retry};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::UnshareFlags;
use tracing::debug;

/// A folder for short names of layers; it goes when this is dropped.
struct View(PathBuf);

impl Drop for View {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            debug!(path = %self.0.display(), %error, "leftover stays until a reboot");
        }
    }
}

/// Copies what an image of these layers, topmost first, has below the directory `target` into the existing empty directory
/// `data`, itself included. How many entries that were; none if it has no such directory. `folder` is a new name for what is needed meanwhile.
///
/// # Errors
/// If there is something else than a directory, or it cannot be read or written.
pub(super) fn copy_from(
    layers: &[PathBuf],
    target: &str,
    data: &Path,
    folder: PathBuf,
) -> Result<u64, String> {
    let view = prepare(layers, folder).map_err(|error| format!("preparing the image's layers: {error}"))?;
    let work = || {
        let root =
            open(&view.0, layers.len()).map_err(|error| format!("mounting the image's layers: {error}"))?;
        let Some(directory) = find(&root, target)? else { return Ok(0) };
        let report = copy(directory.as_fd(), data, &Limits::for_trees())
            .map_err(|error| format!("copying what the image has at {target}: {}", ErrorChain(&error)))?;
        debug!(target, entries = report.entries, bytes = report.bytes, "filled a volume from the image");
        Ok(report.entries)
    };
    // Not a thread of a pool: it is never the same as others again.
    std::thread::scope(|scope| scope.spawn(work).join())
        .unwrap_or_else(|_| Err("the thread that copies from the image panicked".to_owned()))
}

/// Short names: all options of a mount have to fit in one page.
fn prepare(layers: &[PathBuf], folder: PathBuf) -> io::Result<View> {
    fs::create_dir_all(folder.join("mount"))?;
    let view = View(folder);
    for (index, layer) in layers.iter().enumerate() {
        symlink(layer, view.0.join(index.to_string()))?;
    }
    // With only one layer the kernel would refuse the mount.
    fs::create_dir(view.0.join(layers.len().to_string()))?;
    Ok(view)
}

/// Mounts the layers in a new mount namespace of the calling thread.
fn open(view: &Path, last: usize) -> io::Result<OwnedFd> {
    new_namespace()?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    rustix::process::chdir(view)?;
    let names: Vec<String> = (0..=last).map(|layer| layer.to_string()).collect();
    let options = CString::new(format!("lowerdir={}", names.join(":"))).map_err(io::Error::other)?;
    mount("overlay", "mount", "overlay", MountFlags::RDONLY, options.as_c_str())?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(CWD, "mount", flags, Mode::empty())?)
}

#[expect(unsafe_code, reason = "the standard library knows no namespaces")]
fn new_namespace() -> io::Result<()> {
    let flags = UnshareFlags::NEWNS | UnshareFlags::FS;
    // SAFETY: the flags do not include FILES: descriptors stay shared with all threads.
    unsafe { rustix::thread::unshare_unsafe(flags) }?;
    Ok(())
}

/// The directory at an absolute path of the image, links resolved inside it.
fn find(root: &OwnedFd, target: &str) -> Result<Option<OwnedFd>, String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    match retry(|| openat2(root, target, flags, Mode::empty(), resolve)) {
        Ok(directory) if is_root(root, &directory) => {
            Err(format!("{target} is the root of the image: choose another target"))
        }
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::NOTDIR) => {
            Err(format!("the image has a file at {target} or on the way: a volume is a folder"))
        }
        Err(error) => Err(format!("looking for {target} in the image: {error}")),
    }
}

fn is_root(root: &OwnedFd, directory: &OwnedFd) -> bool {
    let inode = |file: &OwnedFd| fstat(file).ok().map(|status| status.st_ino);
    inode(root) == inode(directory)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;

    #[expect(clippy::print_stderr, reason = "a test that cannot run says so")]
    fn skipped() -> bool {
        let skipped = !rustix::process::geteuid().is_root();
        if skipped {
            eprintln!("SKIPPED: needs root to mount");
        }
        skipped
    }

    #[test]
    fn the_layers_are_seen_as_one_and_only_for_a_moment() {
        if skipped() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let [above, below, data] = ["above", "below", "data"].map(|name| folder.path().join(name));
        for path in [above.join("srv/data"), below.join("srv/data"), data.clone()] {
            fs::create_dir_all(path).unwrap();
        }
        fs::write(above.join("srv/data/one"), "new").unwrap();
        fs::write(below.join("srv/data/one"), "old").unwrap();
        fs::write(below.join("srv/data/two"), "two").unwrap();
        fs::write(below.join("srv/file"), "").unwrap();
        fs::set_permissions(above.join("srv/data"), fs::Permissions::from_mode(0o2770)).unwrap();
        std::os::unix::fs::chown(above.join("srv/data"), Some(7), Some(8)).unwrap();
        symlink("/srv/data", above.join("link")).unwrap();
        symlink("../../../..", above.join("up")).unwrap();
        let layers = [above, below];
        let view = || folder.path().join("view");
        assert_eq!(copy_from(&layers, "/link", &data, view()), Ok(3));
        assert_eq!(fs::read_to_string(data.join("one")).unwrap(), "new");
        assert_eq!(fs::read_to_string(data.join("two")).unwrap(), "two");
        let meta = fs::metadata(&data).unwrap();
        assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (7, 8, 0o2770));
        assert_eq!(copy_from(&layers, "/srv/none", &data, view()), Ok(0));
        assert!(copy_from(&layers, "/srv/file", &data, view()).unwrap_err().contains("a volume is a folder"));
        assert!(copy_from(&layers, "/up", &data, view()).unwrap_err().contains("the root of the image"));
        assert!(!view().exists());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&folder.path().display().to_string()), "{mounts}");
    }
}
