//! The cgroups of a lab: found in every hierarchy by the name of their parent, emptied and removed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use rustix::process::Signal;

use crate::process::{self, Process};

/// Where all hierarchies are mounted, v1 and v2 alike.
const ROOT: &str = "/sys/fs/cgroup";
/// What the cgroup parents of all labs begin with; the owner's process number follows.
const PREFIX: &str = "coracle-lab-";
/// How deep below a hierarchy's root a parent may lie (systemd slices, the cgroup of a CI job).
const DEPTH: usize = 6;

/// The cgroup parent of a host of a lab.
#[must_use]
pub fn parent(run: &str, host: impl std::fmt::Display) -> String {
    format!("{PREFIX}{run}-{host}")
}

/// All folders with this name, in all hierarchies.
fn folders(wanted: &dyn Fn(&str) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    search(Path::new(ROOT), DEPTH, wanted, &mut found);
    found
}

fn search(folder: &Path, depth: usize, wanted: &dyn Fn(&str) -> bool, found: &mut Vec<PathBuf>) {
    for path in subfolders(folder) {
        if path.file_name().and_then(|name| name.to_str()).is_some_and(wanted) {
            found.push(path);
        } else if depth > 0 {
            search(&path, depth - 1, wanted, found);
        }
    }
}

fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    // Not following links: v1 has `cpu` -> `cpu,cpuacct` and the like.
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// The processes in a folder and below it, as numbers of the machine's own namespace.
fn members(folder: &Path) -> Vec<i32> {
    let own = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    let mut found: Vec<i32> =
        own.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect();
    for below in subfolders(folder) {
        found.extend(members(&below));
    }
    found
}

/// The processes under a parent, in whatever hierarchy.
#[must_use]
pub fn processes(parent: &str) -> Vec<i32> {
    let mut found: Vec<i32> =
        folders(&|name| name == parent).iter().flat_map(|folder| members(folder)).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Folders of containers that are left under a parent, counted in the hierarchy that has most.
#[must_use]
pub fn containers(parent: &str) -> usize {
    folders(&|name| name == parent).iter().map(|folder| leaves(folder)).max().unwrap_or(0)
}

fn leaves(folder: &Path) -> usize {
    subfolders(folder).iter().map(|below| leaves(below).max(1)).sum()
}

/// Kills what is left under a parent and removes its cgroups everywhere.
///
/// # Errors
/// When processes or folders remain.
pub fn remove(parent: &str) -> Result<()> {
    let mut left = Vec::new();
    let gone = process::wait(Duration::from_secs(10), || {
        left = folders(&|name| name == parent);
        for folder in &left {
            for pid in members(folder) {
                if let Some(process) = Process::of(pid) {
                    // It may end by itself in this moment; the next round sees.
                    let _ = process.signal(Signal::KILL);
                }
            }
            remove_tree(folder);
        }
        folders(&|name| name == parent).is_empty().then_some(())
    });
    if gone.is_none() {
        bail!("cgroups remain: {left:?}");
    }
    Ok(())
}

fn remove_tree(folder: &Path) {
    for below in subfolders(folder) {
        remove_tree(&below);
    }
    // Fails while a process is inside; the caller tries again.
    let _ = fs::remove_dir(folder);
}

/// Removes the empty cgroups of labs whose program has ended without doing so.
pub fn sweep() {
    let orphaned = |name: &str| {
        let Some(rest) = name.strip_prefix(PREFIX) else { return false };
        let Some(owner) = rest.split('-').next().and_then(|pid| pid.parse().ok()) else { return false };
        Process::of(owner).is_none()
    };
    for folder in folders(&orphaned) {
        if members(&folder).is_empty() {
            remove_tree(&folder);
        }
    }
}
