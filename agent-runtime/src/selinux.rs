//! SELinux on this host: whether it confines anything, what its policy calls containers, and labels of files.
//!
//! A label is `USER:ROLE:TYPE`, and `:LEVEL` where the policy has levels.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use rustix::fs::{XattrFlags, lsetxattr};
use rustix::io::Errno;

use crate::error::RuntimeError;

/// The kernel's interface to the policy (selinux(8)).
const INTERFACE: &str = "/sys/fs/selinux";
/// Where distributions tell runtimes what containers are to be labelled with; the first that exists counts.
const SHARED_CONTEXTS: &str = "/usr/share/containers/selinux/contexts";
/// Which policy this host has.
const CONFIGURATION: &str = "/etc/selinux/config";
/// What the policies of all distributions with containers call them, should no file say so.
const PROCESS: &str = "system_u:system_r:container_t:s0";
const FILE: &str = "system_u:object_r:container_file_t:s0";
const READ_ONLY_FILE: &str = "system_u:object_r:container_ro_file_t:s0";
/// fsconfig(2) takes values of up to 255 bytes.
const LONGEST: usize = 255;

/// Labels of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelinuxLabels {
    /// Of its processes, from the execution of the program on.
    pub process: String,
    /// Of all files in file systems that are made for it: its root, /dev, and those in memory.
    pub mount: String,
}

/// What the policy of this host has for containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelinuxDefaults {
    /// Label of processes.
    pub process: String,
    /// Label of files.
    pub file: String,
    /// Label of layers of images. What maps a file of theirs is judged by it too: for the kernel's memory management the file is
    /// that of the layer, not the one in the container's root.
    pub layer: String,
    /// Labels have a level.
    pub has_levels: bool,
}

/// What this host's policy has for containers; `None` where no policy is in force.
#[must_use]
pub fn selinux_defaults() -> Option<SelinuxDefaults> {
    if !is_active() {
        return None;
    }
    let read = |path: &str| fs::read_to_string(path).ok();
    let contexts = read(SHARED_CONTEXTS).or_else(|| {
        let policy = value(&read(CONFIGURATION)?, "SELINUXTYPE")?.to_owned();
        // A single name: it becomes a part of a path.
        let is_name = !policy.is_empty() && policy != ".." && !policy.contains('/');
        is_name.then(|| read(&format!("/etc/selinux/{policy}/contexts/lxc_contexts"))).flatten()
    });
    let has_levels = read(&format!("{INTERFACE}/mls")).is_some_and(|text| text.trim() == "1");
    let mut defaults = defaults(contexts.as_deref().unwrap_or_default(), has_levels);
    if !is_known(&defaults.layer) {
        // Older policies have one label for all.
        defaults.layer.clone_from(&defaults.file);
    }
    Some(defaults)
}

/// Without a policy every process is said to be the kernel's; where another security module is in charge, there is no
/// interface.
fn is_active() -> bool {
    let own = fs::read_to_string("/proc/self/attr/current").unwrap_or_default();
    Path::new(INTERFACE).join("enforce").exists()
        && !matches!(own.trim_end_matches(['\0', '\n']), "" | "kernel")
}

fn defaults(contexts: &str, has_levels: bool) -> SelinuxDefaults {
    let label = |key, fallback: &str| {
        let told = value(contexts, key).filter(|told| told.split(':').count() >= 3).unwrap_or(fallback);
        let parts = if has_levels { usize::MAX } else { 3 };
        told.split(':').take(parts).collect::<Vec<_>>().join(":")
    };
    SelinuxDefaults {
        process: label("process", PROCESS),
        file: label("file", FILE),
        layer: label("ro_file", READ_ONLY_FILE),
        has_levels,
    }
}

/// The value of `key = "value"` or `key=value`; lines that begin with `#` are comments.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let pairs = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let mut pairs = pairs.filter_map(|line| line.split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.trim() == key)?;
    Some(value.trim().trim_matches('"')).filter(|value| !value.is_empty())
}

fn refused(label: &str, why: &str) -> RuntimeError {
    RuntimeError::InvalidSpec { field: "SELinux label", value: label.to_owned(), why: why.to_owned() }
}

/// Labels become options of mounts, in which a quotation mark would end them.
pub(crate) fn check(labels: &SelinuxLabels) -> Result<(), RuntimeError> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:,-".contains(&byte);
    for label in [&labels.process, &labels.mount] {
        if label.len() > LONGEST || label.split(':').count() < 3 || !label.bytes().all(known) {
            return Err(refused(
                label,
                "it is USER:ROLE:TYPE[:LEVEL], of at most 255 letters, digits and _ . : , -",
            ));
        }
    }
    Ok(())
}

/// Whether the policy in force has such labels. The kernel says so again when they are taken on, but less clearly.
pub(crate) fn check_policy(labels: &SelinuxLabels) -> Result<(), RuntimeError> {
    if !is_active() {
        return Err(refused(&labels.process, "SELinux is not active on this node"));
    }
    for label in [&labels.process, &labels.mount] {
        if !is_known(label) {
            let why =
                "the SELinux policy of this node does not have it: look at its user, role, type and level";
            return Err(refused(label, why));
        }
    }
    Ok(())
}

/// Asks the kernel. Whoever may not ask is told when it matters.
fn is_known(label: &str) -> bool {
    let asked = fs::OpenOptions::new().write(true).open(Path::new(INTERFACE).join("context"));
    let answer = asked.and_then(|mut file| file.write_all(label.as_bytes()));
    !answer.is_err_and(|error| error.kind() == io::ErrorKind::InvalidInput)
}

/// Gives a file of the host a label. One on a file system without labels of its own stays as it is.
pub(crate) fn label(path: &Path, label: &str) -> io::Result<()> {
    match lsetxattr(path, OsStr::new("security.selinux"), label.as_bytes(), XattrFlags::empty()) {
        Err(Errno::OPNOTSUPP) => Ok(()),
        result => Ok(result?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_policy_calls_containers() {
        let contexts = "# process = \"no\"\nprocess = \"u:r:box_t:s0\"\ncontent = \"x\"\nfile = \"u:object_r:box_file_t:s0\"\n";
        let told = defaults(contexts, true);
        assert_eq!((told.process.as_str(), told.file.as_str()), ("u:r:box_t:s0", "u:object_r:box_file_t:s0"));
        let bare = defaults("file = nonsense\n", false);
        assert_eq!(bare.process, "system_u:system_r:container_t");
        assert_eq!(bare.file, "system_u:object_r:container_file_t");
        assert_eq!(
            value("# SELINUXTYPE=a\nSELINUX=enforcing\nSELINUXTYPE = mls\n", "SELINUXTYPE"),
            Some("mls")
        );
        assert_eq!(value("SELINUXTYPE=\n", "SELINUXTYPE"), None);
    }

    #[test]
    fn labels_that_would_break_out_of_an_option_are_refused() {
        let labels = |label: &str| SelinuxLabels { process: label.into(), mount: "u:object_r:t".into() };
        check(&labels("system_u:system_r:container_t:s0-s0:c0.c1023")).unwrap();
        check(&labels("u:r:t:s0:c1,c2")).unwrap();
        let long = format!("u:r:{}", "t".repeat(252));
        for bad in ["", "t", "u:r", "u:r:t\",size=1", "u:r:t s0", "u:r:t\0", "u:r:t\n", "u:r:t=x", &long] {
            assert!(check(&labels(bad)).unwrap_err().is_rejection(), "{bad:?}");
        }
    }
}
