//! Secrets and configs of containers: one file system in memory for each container, bound into it file by file, read-only.
//!
//! Stands in front of the runtime, which knows of ordinary binds only. The file system is the kernel's, not this process's: a
//! container that goes on while the daemon restarts keeps its files. It goes with the container, and with a reboot. Where the
//! kernel can (6.4, tmpfs(5) `noswap`), it is never swapped out; older ones may write it to a swap device.

use std::ffi::CString;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coracle_model::id::TaskId;
use coracle_model::mount::{Mount, MountKind, Propagation, Recursive};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use tracing::warn;

use super::LaunchFile;
use crate::adapters::containers::{ContainerError, Containers, Found};
use crate::adapters::in_front::InFront;
use crate::launch::Launch;

/// Room of the file system beyond the pages of the files, for its inodes and names.
const ROOM: usize = 1 << 20;

/// Containers whose files are mounted.
pub(crate) struct WithFiles {
    containers: Arc<dyn Containers>,
    /// One folder for each container with files. Not on a disk, or at least empty on it.
    directory: PathBuf,
}

impl WithFiles {
    pub(crate) fn new(containers: Arc<dyn Containers>, directory: PathBuf) -> Self {
        Self { containers, directory }
    }

    fn folder(&self, task: TaskId) -> PathBuf {
        self.directory.join(task.to_string())
    }

    /// Puts the files there and says how they are bound.
    fn place(&self, launch: &Launch) -> Result<Vec<Mount>, ContainerError> {
        let folder = self.folder(launch.task);
        // What an earlier try has left.
        clear(&folder).map_err(|error| failed("removing old secrets and configs", &error))?;
        let label = launch.selinux.as_ref().map(|labels| labels.mount.as_str());
        fill(&folder, &launch.files, label).map_err(|error| failed("writing secrets and configs", &error))?;
        Ok(launch
            .files
            .iter()
            .enumerate()
            .map(|(at, file)| bind(&folder.join(at.to_string()), file))
            .collect())
    }

    fn remove(&self, task: TaskId) -> Result<(), ContainerError> {
        clear(&self.folder(task)).map_err(|error| failed("removing secrets and configs", &error))
    }

    /// Removes what belongs to no container: its daemon was killed between the two.
    fn sweep(&self, found: &[Found]) {
        let Ok(entries) = fs::read_dir(&self.directory) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let kept = found.iter().any(|found| name.to_str() == Some(found.task.to_string().as_str()));
            if !kept && let Err(error) = clear(&entry.path()) {
                warn!(%error, path = %entry.path().display(), "secrets and configs of a container that is gone were not removed");
            }
        }
    }
}

fn failed(what: &str, error: &io::Error) -> ContainerError {
    ContainerError(format!("{what}: {error}"))
}

fn bind(source: &Path, file: &LaunchFile) -> Mount {
    let kind = MountKind::Bind {
        source: source.display().to_string(),
        propagation: Propagation::RecursivePrivate,
        recursive: Recursive::Disabled,
        create_source: false,
    };
    Mount { target: file.target.clone(), read_only: true, kind }
}

/// Mounts a file system in memory, with this SELinux label, and writes the files, named by their places in the list.
fn fill(folder: &Path, files: &[LaunchFile], label: Option<&str>) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    let size = files.iter().map(|file| pages(file.reveal().len())).sum::<usize>() + ROOM;
    mount_memory(folder, size, label)?;
    files.iter().enumerate().try_for_each(|(at, file)| write(&folder.join(at.to_string()), file))
}

/// What a file of so many bytes takes at most: the kernel counts whole pages, which are never larger than this.
fn pages(bytes: usize) -> usize {
    bytes.next_multiple_of(64 << 10)
}

fn mount_memory(folder: &Path, size: usize, label: Option<&str>) -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let context = context(label);
    let options =
        |more: &str| CString::new(format!("mode=0700,size={size}{more}{context}")).map_err(io::Error::other);
    match mount("coracle-files", folder, "tmpfs", flags, options(",noswap")?.as_c_str()) {
        // Before 6.4 the kernel does not know the option.
        Err(Errno::INVAL) => mount("coracle-files", folder, "tmpfs", flags, options("")?.as_c_str())?,
        result => result?,
    }
    // Nobody else's mount namespace gets it by propagation.
    Ok(mount_change(folder, MountPropagationFlags::PRIVATE)?)
}

/// The option for a label of all files; in quotation marks, because a level has commas.
fn context(label: Option<&str>) -> String {
    label.map(|label| format!(",context=\"{label}\"")).unwrap_or_default()
}

fn write(path: &Path, file: &LaunchFile) -> io::Result<()> {
    let mut written = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    written.write_all(file.reveal())?;
    drop(written);
    chown(path, Some(file.uid), Some(file.gid))?;
    // After the owner, whose change takes away the set-id bits.
    fs::set_permissions(path, fs::Permissions::from_mode(file.mode))
}

/// Removes the folder and whatever is mounted on it; nothing if there is none.
fn clear(folder: &Path) -> io::Result<()> {
    loop {
        match unmount(folder, UnmountFlags::DETACH) {
            Ok(()) => {}
            // Nothing (more) is mounted there; or there is nothing.
            Err(Errno::INVAL) => break,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    // Not recursive: what lies below a mount would be somebody else's mistake, and is to be seen.
    fs::remove_dir(folder)
}

impl InFront for WithFiles {
    fn behind(&self) -> &dyn Containers {
        self.containers.as_ref()
    }

    fn make(&self, launch: &Launch) -> Result<(), ContainerError> {
        if launch.files.is_empty() {
            return self.containers.create(launch);
        }
        let mut launch = launch.clone();
        let created = self.place(&launch).and_then(|mounts| {
            launch.mounts.extend(mounts);
            self.containers.create(&launch)
        });
        if created.is_err()
            && let Err(error) = self.remove(launch.task)
        {
            warn!(task = %launch.task, %error, "container could not be made, and not all of it was removed");
        }
        created
    }

    fn unmake(&self, task: TaskId) -> Result<(), ContainerError> {
        self.containers.delete(task)?;
        self.remove(task)
    }

    fn find(&self) -> Result<Vec<Found>, ContainerError> {
        let found = self.containers.recover()?;
        self.sweep(&found);
        Ok(found)
    }
}

#[cfg(test)]
#[allow(clippy::print_stdout, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_label_with_commas_stays_one_option() {
        assert_eq!(context(Some("u:object_r:t:s0:c1,c2")), ",context=\"u:object_r:t:s0:c1,c2\"");
        assert_eq!(context(None), "");
    }

    #[test]
    fn as_many_small_files_as_a_service_may_have_find_room() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: mounting needs root");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let file = LaunchFile {
            target: "/f".into(),
            uid: 0,
            gid: 0,
            mode: 0o400,
            data: Arc::new(vec![7; 100].into()),
        };
        let filled = fill(folder.path(), &vec![file; 1024], None);
        clear(folder.path()).unwrap();
        filled.unwrap();
    }
}
