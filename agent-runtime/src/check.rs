//! What this host offers to containers.

use crate::cgroup::{CgroupVersion, Host};
use crate::error::{IoContext, RuntimeError};
use std::fs;
use std::path::Path;

/// Facts for an operator and for deciding whether containers can run here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFacts {
    /// Kernel release.
    pub kernel: String,
    /// Machine architecture as uname(2) has it.
    pub architecture: String,
    /// Generation of cgroups in use, `None` if none is usable.
    pub cgroup_version: Option<CgroupVersion>,
    /// Controllers that limits can be set with.
    pub cgroup_controllers: Vec<String>,
    /// Whether the kernel has overlayfs (it may still be loaded as a module at first use otherwise).
    pub overlay: bool,
    /// Whether the kernel has system call filters.
    pub seccomp: bool,
    /// Logical processors.
    pub processors: usize,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Reasons why containers cannot run, in words for an operator. Empty when they can.
    pub problems: Vec<String>,
}

/// Looks at the host. Never fails: what is missing is in `problems`.
#[must_use]
pub fn check() -> HostFacts {
    let system = rustix::system::uname();
    let host = Host::detect();
    let overlay = fs::read_to_string("/proc/filesystems").is_ok_and(|text| text.contains("\toverlay\n"));
    let seccomp = Path::new("/proc/sys/kernel/seccomp").exists();
    let memory = rustix::system::sysinfo();
    let mut problems = Vec::new();
    if !rustix::process::geteuid().is_root() {
        problems.push("not running as root".to_owned());
    }
    if !overlay && !Path::new("/lib/modules").exists() {
        problems.push("the kernel has no overlayfs".to_owned());
    }
    if !seccomp {
        problems.push("the kernel has no seccomp filters".to_owned());
    }
    if let Err(error) = &host {
        problems.push(error.to_string());
    }
    let host = host.ok();
    HostFacts {
        kernel: system.release().to_string_lossy().into_owned(),
        architecture: system.machine().to_string_lossy().into_owned(),
        cgroup_version: host.as_ref().map(|host| host.version),
        cgroup_controllers: host
            .iter()
            .flat_map(|host| &host.hierarchies)
            .flat_map(|hierarchy| hierarchy.controllers.iter().cloned())
            .collect(),
        overlay,
        seccomp,
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        memory_bytes: (memory.totalram as u64).saturating_mul(u64::from(memory.mem_unit)),
        problems,
    }
}

/// Identifies the host's current boot.
pub(crate) fn boot_id() -> Result<String, RuntimeError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    Ok(fs::read_to_string(path).doing("reading", path)?.trim().to_owned())
}

/// Per-processor files that show what other containers make the processor do.
pub(crate) fn thermal_paths() -> Vec<String> {
    let Ok(entries) = fs::read_dir("/sys/devices/system/cpu") else { return Vec::new() };
    let mut paths: Vec<String> = entries
        .flatten()
        .map(|entry| entry.path().join("thermal_throttle"))
        .filter(|path| path.exists())
        .filter_map(|path| path.to_str().map(str::to_owned))
        .collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_of_this_host() {
        let facts = check();
        assert!(facts.processors > 0 && facts.memory_bytes > 0);
        assert!(!facts.kernel.is_empty());
    }
}
