//! Devices of the host that a container is given.

use crate::error::RuntimeError;
use crate::spec::Device;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Folders are walked so deep.
const DEEPEST: usize = 6;
/// What a container of its own has in /dev, which is never the host's.
const OWN: &[&str] = &["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/console", "/dev/ptmx", "/dev/fd"];

/// A device file, as it is on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Absolute path in the container.
    pub(crate) path: String,
    pub(crate) block: bool,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) mode: u32,
    pub(crate) user: u32,
    pub(crate) group: u32,
    /// Any of `r`, `w` and `m`.
    pub(crate) permissions: String,
}

fn refused(value: &Path, why: impl Into<String>) -> RuntimeError {
    RuntimeError::InvalidSpec { field: "device", value: value.display().to_string(), why: why.into() }
}

/// The devices behind a request: one, or all in a folder.
pub(crate) fn find(device: &Device) -> Result<Vec<Found>, RuntimeError> {
    let mut found = Vec::new();
    let metadata = match fs::metadata(&device.host) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(refused(&device.host, "it does not exist on this node"));
        }
        result => result.map_err(|error| refused(&device.host, error.to_string()))?,
    };
    if metadata.is_dir() {
        walk(&device.host, &device.container, &device.permissions, DEEPEST, &mut found);
        if found.is_empty() {
            return Err(refused(&device.host, "there is no device in this folder of the node"));
        }
    } else {
        let one = of(&metadata, &device.container, &device.permissions);
        found.push(one.ok_or_else(|| refused(&device.host, "it is no device on this node"))?);
    }
    Ok(found)
}

/// Every device of the host, for a privileged container.
pub(crate) fn all() -> Vec<Found> {
    let mut found = Vec::new();
    walk(Path::new("/dev"), "/dev", "rwm", DEEPEST, &mut found);
    found
}

/// Links are left out, because they name what is found anyway; what goes away meanwhile is too.
fn walk(folder: &Path, container: &str, permissions: &str, depth: usize, found: &mut Vec<Found>) {
    if depth == 0 {
        return;
    }
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let (Some(name), Ok(metadata)) = (name.to_str(), fs::symlink_metadata(&path)) else { continue };
        let container = format!("{}/{name}", container.trim_end_matches('/'));
        if OWN.contains(&container.as_str()) {
            continue;
        }
        if metadata.is_dir() {
            walk(&path, &container, permissions, depth - 1, found);
        } else {
            found.extend(of(&metadata, &container, permissions));
        }
    }
}

fn of(metadata: &fs::Metadata, container: &str, permissions: &str) -> Option<Found> {
    let kind = metadata.file_type();
    (kind.is_block_device() || kind.is_char_device()).then(|| Found {
        path: container.to_owned(),
        block: kind.is_block_device(),
        major: rustix::fs::major(metadata.rdev()),
        minor: rustix::fs::minor(metadata.rdev()),
        mode: metadata.mode() & 0o7777,
        user: metadata.uid(),
        group: metadata.gid(),
        permissions: permissions.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(host: &str) -> Device {
        Device { host: host.into(), container: "/dev/x".into(), permissions: "rw".into() }
    }

    #[test]
    fn devices_are_found_as_they_are() {
        let found = find(&device("/dev/null")).unwrap();
        assert_eq!((found.len(), found[0].block, found[0].major, found[0].minor), (1, false, 1, 3));
        assert_eq!((found[0].path.as_str(), found[0].permissions.as_str()), ("/dev/x", "rw"));
        for (bad, why) in
            [("/dev/nothing", "does not exist"), ("/etc/passwd", "no device"), ("/etc", "no device")]
        {
            let error = find(&device(bad)).unwrap_err();
            assert!(error.is_rejection());
            let error = error.to_string();
            assert!(error.contains(bad) && error.contains(why), "{error}");
        }
        let all = all();
        assert!(all.iter().any(|found| found.path == "/dev/null"));
        assert!(all.iter().all(|found| !found.path.starts_with("/dev/pts")));
    }
}
