//! Limits on cgroup v2 (kernel: Documentation/admin-guide/cgroup-v2.rst).

use super::{Write, v1};
use crate::spec::Resources;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Controllers that containers need.
const CONTROLLERS: &[&str] = &["cpu", "memory", "pids"];

pub(super) fn writes(resources: &Resources) -> Vec<Write> {
    let mut writes = Vec::new();
    if let Some(memory) = resources.memory_bytes {
        writes.push(Write::new("memory", "memory.max", memory));
        const SWAP: &str = "memory.swap.max";
        writes.push(match resources.memory_swap {
            None => Write::new("memory", SWAP, memory).optional(),
            Some(u64::MAX) => Write::new("memory", SWAP, "max").asked_for("limits.swap"),
            Some(total) => Write::new("memory", SWAP, total.saturating_sub(memory)).asked_for("limits.swap"),
        });
    }
    if let Some(swappiness) = resources.swappiness {
        // There is no such file, which the error then says.
        writes.push(Write::new("memory", "memory.swappiness", swappiness).asked_for("limits.swappiness"));
    }
    if let Some(cpuset) = &resources.cpuset {
        writes.push(Write::new("cpuset", "cpuset.cpus", cpuset).asked_for("limits.cpuset"));
    }
    if let Some(pids) = resources.pids {
        writes.push(Write::new("pids", "pids.max", pids));
    }
    if let Some(cpu) = resources.cpu_nano {
        writes.push(Write::new("cpu", "cpu.max", format!("{} {}", v1::quota(cpu), v1::PERIOD)));
    }
    writes
}

/// Child cgroup for the processes of a cgroup that is to hand controllers down.
const EVACUATED: &str = "init";
/// Processes may be forked while others are moved.
const EVACUATION_ROUNDS: u32 = 16;

/// Hands the controllers down one level. If `may_evacuate` says so, processes of this cgroup that are in the way are
/// moved into a child of it ("no internal process constraint" of cgroup-v2.rst).
///
/// # Errors
/// The first one; what could be handed down shows in [`missing_controllers`].
pub(super) fn enable_controllers(directory: &Path, may_evacuate: bool) -> io::Result<()> {
    match enable(directory) {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy && may_evacuate => {
            evacuate(directory)?;
            enable(directory)
        }
        result => result,
    }
}

fn enable(directory: &Path) -> io::Result<()> {
    let control = directory.join("cgroup.subtree_control");
    let enable = |controller| super::write_existing(&control, &format!("+{controller}"));
    // One by one, because one that is missing must not cost the others.
    let result = CONTROLLERS.iter().copied().map(enable).fold(Ok(()), Result::and);
    // Where it is missing, containers that need it are refused.
    let _ = enable("cpuset");
    result
}

/// Moves all processes of a cgroup into its child `init`.
pub(super) fn evacuate(directory: &Path) -> io::Result<()> {
    let child = directory.join(EVACUATED);
    match fs::create_dir(&child) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        result => result?,
    }
    for _ in 0..EVACUATION_ROUNDS {
        let members = fs::read_to_string(directory.join("cgroup.procs"))?;
        if members.is_empty() {
            return Ok(());
        }
        for pid in members.lines() {
            match super::write_existing(&child.join("cgroup.procs"), pid) {
                // It has ended meanwhile.
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                result => result?,
            }
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "new processes keep appearing"))
}

/// The v2 cgroup of this process, relative to the root of the hierarchy as its cgroup namespace has it.
pub(super) fn own() -> io::Result<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup")?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
    path.map(PathBuf::from).ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no cgroup v2 membership"))
}

/// Controllers that the children of a cgroup will not have.
pub(super) fn missing_controllers(directory: &Path) -> Vec<&'static str> {
    let enabled = fs::read_to_string(directory.join("cgroup.subtree_control")).unwrap_or_default();
    let enabled: Vec<&str> = enabled.split_whitespace().collect();
    CONTROLLERS.iter().copied().filter(|controller| !enabled.contains(controller)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let lines = |resources: &Resources| -> Vec<String> {
            writes(resources).iter().map(|write| format!("{}={}", write.file, write.value)).collect()
        };
        let none = Resources { pids: None, ..Resources::default() };
        assert!(lines(&none).is_empty());
        let all = Resources {
            cpu_nano: Some(250_000_000),
            memory_bytes: Some(1000),
            memory_swap: Some(1000),
            pids: Some(7),
            ..Resources::default()
        };
        assert_eq!(
            lines(&all),
            ["memory.max=1000", "memory.swap.max=0", "pids.max=7", "cpu.max=25000 100000"]
        );
    }
}
