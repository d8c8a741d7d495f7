//! Where a container's files are.
//!
//! Durable (`state_dir/<id>`): `container.json`, `exit.json`, `upper/`, `work/`, `rootfs/` (a mount point in the
//! container's own mount namespace only), `l/` (short links to the layers), `files/`, and the log unless it goes
//! elsewhere, `bundle/` for hooks; also `lock` and `state.json`, which mean nothing after a reboot. Until reboot (`run_dir/<id>`):
//! `control`. Whoever removes the run directory while containers run costs them that socket, and not their lives.

use crate::error::{IoContext, RuntimeError};
use crate::id::ContainerId;
use crate::mounted;
use crate::plan::OCI_VERSION;
use crate::selinux;
use crate::spec::{ContainerSpec, Mount, Network, Rootfs};
use coracle_remove_tree::remove_tree;
use coracle_runtime_protocol::{
    CONTROL_SOCKET, EXIT_FILE, EXIT_FILE_PREPARED, ExitRecord, LOCK_FILE, RunState, STATE_FILE,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Name of the file that describes a container.
const CONTAINER_FILE: &str = "container.json";
/// How often, and after which pause, a file is read that cannot be read.
const READ_ATTEMPTS: u32 = 3;
const READ_PAUSE: Duration = Duration::from_millis(50);
const DEFAULT_HOSTS: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";

/// What is remembered about a container besides its exit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ContainerFile {
    /// Nanoseconds since the Unix epoch.
    pub(crate) created_at: u64,
    /// The host's boot during which it was made.
    pub(crate) boot_id: String,
    pub(crate) labels: BTreeMap<String, String>,
    /// Where its log is.
    pub(crate) log_directory: PathBuf,
}

/// The two directories of one container.
#[derive(Clone, Debug)]
pub(crate) struct ContainerDirectory {
    pub(crate) state: PathBuf,
    pub(crate) run: PathBuf,
}

impl ContainerDirectory {
    pub(crate) fn new(state_dir: &Path, run_dir: &Path, id: &ContainerId) -> Self {
        Self { state: state_dir.join(id.as_str()), run: run_dir.join(id.as_str()) }
    }

    /// Makes both directories with everything that the plan refers to.
    pub(crate) fn create(&self, spec: &ContainerSpec, file: &ContainerFile) -> Result<(), RuntimeError> {
        make_private(&self.state)?;
        coracle_crash_point::crash_point!("container.before-record");
        self.write_file(file)?;
        coracle_crash_point::crash_point!("container.after-record");
        // The writable layer's own mode is that of the container's root.
        for (name, mode) in
            [("upper", 0o755), ("work", 0o700), ("rootfs", 0o700), ("l", 0o700), ("files", 0o755)]
        {
            let path = self.state.join(name);
            fs::create_dir(&path).doing("creating", &path)?;
            fs::set_permissions(&path, Permissions::from_mode(mode)).doing("changing the mode of", &path)?;
        }
        let Rootfs::Overlay { lower } = &spec.rootfs;
        for (index, layer) in lower.iter().enumerate() {
            let link = self.state.join(format!("l/{index}"));
            symlink(layer, &link).doing("linking", &link)?;
        }
        self.link_layers(spec)?;
        self.place_files(spec)?;
        if let Some(directory) = &spec.log.directory {
            DirBuilder::new().recursive(true).mode(0o700).create(directory).doing("creating", directory)?;
        }
        // A run directory may be left from before a crash; it holds nothing of worth without the other.
        match fs::remove_dir_all(&self.run) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result.doing("removing", &self.run)?,
        }
        make_private(&self.run)?;
        let lock = self.lock_path();
        File::create_new(&lock).doing("creating", &lock)?;
        coracle_crash_point::crash_point!("container.after-folders");
        Ok(())
    }

    /// Short names of the layers that mounts are made of, as of those of the root, and an empty folder under them.
    fn link_layers(&self, spec: &ContainerSpec) -> Result<(), RuntimeError> {
        for (index, mount) in spec.mounts.iter().enumerate() {
            let Mount::Layers { lower, .. } = mount else { continue };
            let place = self.state.join(format!("m/{index}"));
            for path in [place.join("mount"), place.join(lower.len().to_string())] {
                DirBuilder::new().recursive(true).mode(0o755).create(&path).doing("creating", &path)?;
            }
            for (layer, path) in lower.iter().enumerate() {
                let link = place.join(layer.to_string());
                symlink(path, &link).doing("linking", &link)?;
            }
        }
        Ok(())
    }

    /// Where the layers of a mount are put together, in the container's mount namespace only.
    pub(crate) fn mounted_layers(&self, index: usize) -> PathBuf {
        self.state.join(format!("m/{index}/mount"))
    }

    fn place_files(&self, spec: &ContainerSpec) -> Result<(), RuntimeError> {
        let hosts = match (&spec.files.hosts, &spec.network) {
            (Some(hosts), _) => Some(hosts.as_str()),
            (None, Network::Host) => None,
            (None, _) => Some(DEFAULT_HOSTS),
        };
        let hostname = spec.hostname.as_ref().map(|name| format!("{name}\n"));
        for (name, contents) in [
            ("hostname", hostname.as_deref()),
            ("hosts", hosts),
            ("resolv.conf", spec.files.resolv_conf.as_deref()),
        ] {
            let Some(contents) = contents else { continue };
            let path = self.placed(name);
            fs::write(&path, contents).doing("writing", &path)?;
            fs::set_permissions(&path, Permissions::from_mode(0o644)).doing("changing the mode of", &path)?;
            if let Some(labels) = &spec.selinux {
                selinux::label(&path, &labels.mount).doing("labelling", &path)?;
            }
        }
        Ok(())
    }

    /// A file that is bound into /etc.
    pub(crate) fn placed(&self, name: &str) -> PathBuf {
        self.state.join("files").join(name)
    }

    /// Where the root is mounted, in the container's mount namespace only.
    pub(crate) fn root(&self) -> PathBuf {
        self.state.join("rootfs")
    }

    /// What hooks may read of the container.
    pub(crate) fn bundle(&self) -> PathBuf {
        self.state.join("bundle")
    }

    /// Writes the part of an OCI configuration ("config.md", "Root") that hooks look for: where the root is. Nothing of the
    /// program is in it, whose variables may be secrets.
    pub(crate) fn write_bundle(&self, read_only: bool) -> Result<(), RuntimeError> {
        let bundle = self.bundle();
        make_private(&bundle)?;
        let path = bundle.join("config.json");
        let configuration = serde_json::json!({
            "ociVersion": OCI_VERSION,
            "root": { "path": self.root(), "readonly": read_only },
        });
        fs::write(&path, configuration.to_string()).doing("writing", &path)
    }

    pub(crate) fn lock_path(&self) -> PathBuf {
        self.state.join(LOCK_FILE)
    }

    /// Whether its supervisor can be talked to.
    pub(crate) fn has_control(&self) -> bool {
        self.run.join(CONTROL_SOCKET).exists()
    }

    fn write_file(&self, file: &ContainerFile) -> Result<(), RuntimeError> {
        let path = self.state.join(CONTAINER_FILE);
        let text = serde_json::to_vec(file).map_err(io::Error::from).doing("encoding", &path)?;
        fs::write(&path, text).doing("writing", &path)
    }

    /// `None` for a container that was never made completely.
    pub(crate) fn read_file(&self) -> io::Result<Option<ContainerFile>> {
        read_json(&self.state.join(CONTAINER_FILE))
    }

    /// `None` for one whose end nobody recorded. An error tells nothing: there may be a good record.
    pub(crate) fn read_exit(&self) -> io::Result<Option<ExitRecord>> {
        match read_json(&self.state.join(EXIT_FILE))? {
            None => read_json(&self.run.join(EXIT_FILE)),
            record => Ok(record),
        }
    }

    /// `None` before there is one, or when it cannot be read.
    pub(crate) fn read_state(&self) -> Option<RunState> {
        let path = self.state.join(STATE_FILE);
        read_json(&path).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "the state of a container cannot be read");
            None
        })
    }

    /// Records an end that no supervisor recorded, durably, or at least until a reboot.
    pub(crate) fn write_exit(&self, record: &ExitRecord) -> Result<(), RuntimeError> {
        let path = self.state.join(EXIT_FILE);
        let text = serde_json::to_vec(record).map_err(io::Error::from).doing("encoding", &path)?;
        let durable = write_exit_durably(&self.state, &text).doing("writing", &path);
        durable.or_else(|error| fs::write(self.run.join(EXIT_FILE), &text).map_err(|_| error))
    }

    /// Removes both; what is not there is fine.
    pub(crate) fn remove(&self, errors: &mut Vec<RuntimeError>) {
        for directory in [&self.run, &self.state] {
            // What a program has made in its writable layer may be deeper than the standard library can remove.
            match remove(directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => {
                    errors.push(RuntimeError::Io { doing: "removing", path: directory.clone(), source });
                }
                Ok(()) => {}
            }
            coracle_crash_point::crash_point!("container.delete.after-run");
        }
    }
}

/// A hook that runs in the host's namespaces may have mounted something here, which would keep the container from being
/// deleted for ever.
fn remove(directory: &Path) -> io::Result<()> {
    match remove_tree(directory) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            mounted::unmount_below(directory)?;
            remove_tree(directory)
        }
        result => result,
    }
}

fn make_private(directory: &Path) -> Result<(), RuntimeError> {
    DirBuilder::new().mode(0o700).create(directory).doing("creating", directory)
}

/// `None` if there is no such file. What may pass is tried again.
fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> io::Result<Option<T>> {
    let mut attempt = 1;
    let text = loop {
        match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if attempt == READ_ATTEMPTS => return Err(error),
            Err(_) => std::thread::sleep(READ_PAUSE),
            Ok(text) => break text,
        }
        attempt += 1;
    };
    serde_json::from_slice(&text).map(Some).map_err(io::Error::from)
}

/// Into the room that the supervisor took on the disk, if it did.
fn write_exit_durably(directory: &Path, text: &[u8]) -> io::Result<()> {
    let prepared = directory.join(EXIT_FILE_PREPARED);
    let mut file = File::options().write(true).create(true).truncate(false).open(&prepared)?;
    file.write_all(text)?;
    file.set_len(text.len() as u64)?;
    file.sync_all()?;
    fs::rename(&prepared, directory.join(EXIT_FILE))?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_runtime_protocol::Outcome;

    #[test]
    fn an_unreadable_record_is_not_a_missing_one() {
        let place = tempfile::tempdir().unwrap();
        let directory = ContainerDirectory { state: place.path().join("s"), run: place.path().join("r") };
        fs::create_dir(&directory.state).unwrap();
        fs::create_dir(&directory.run).unwrap();
        assert_eq!(directory.read_exit().unwrap(), None);
        let record =
            ExitRecord { outcome: Outcome::Code(3), oom_killed: false, started_at: None, finished_at: 7 };
        // Longer than the record, as it is prepared.
        fs::write(directory.state.join(EXIT_FILE_PREPARED), [0; 4096]).unwrap();
        directory.write_exit(&record).unwrap();
        assert_eq!(directory.read_exit().unwrap(), Some(record.clone()));
        fs::remove_file(directory.state.join(EXIT_FILE)).unwrap();
        // The durable directory takes nothing.
        fs::create_dir(directory.state.join(EXIT_FILE_PREPARED)).unwrap();
        directory.write_exit(&record).unwrap();
        assert_eq!(directory.read_exit().unwrap(), Some(record));
        fs::create_dir(directory.state.join(EXIT_FILE)).unwrap();
        directory.read_exit().unwrap_err();
    }

    #[test]
    fn what_a_hook_has_mounted_among_its_files_is_not_removed_with_them() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: mounting needs root");
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let directory = ContainerDirectory { state: place.path().join("s"), run: place.path().join("r") };
        let (inside, host) = (directory.root().join("a vendor's"), place.path().join("host"));
        fs::create_dir_all(&inside).unwrap();
        fs::create_dir_all(host.join("deeper")).unwrap();
        fs::write(host.join("kept"), "").unwrap();
        rustix::mount::mount_bind(&host, &inside).unwrap();
        rustix::mount::mount_bind(&host, inside.join("deeper")).unwrap();
        let mut errors = Vec::new();
        directory.remove(&mut errors);
        assert!(errors.is_empty(), "{errors:?}");
        assert!(!directory.state.exists() && host.join("kept").exists());
    }
}
