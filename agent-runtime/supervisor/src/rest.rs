//! What is left of a container that shares the host's process numbers when its first process has ended.

use crate::sys;
use coracle_runtime_protocol::{Plan, Step};
use rustix::fd::AsFd;
use std::path::Path;
use std::time::Duration;

/// How often what is left in a cgroup is killed, and the pause between two attempts: about ten seconds.
const KILL_ROUNDS: u32 = 2_000;
const KILL_PAUSE: Duration = Duration::from_millis(5);

/// Kills what init left in the container's cgroup, so that the container is over when it is said to be. Those of them that are
/// our children are to be reaped meanwhile.
pub(crate) fn end(plan: &Plan, reap: impl Fn()) {
    let Some(directory) = directory(plan) else { return };
    for _ in 0..KILL_ROUNDS {
        if kill(directory, None).is_empty() {
            return;
        }
        reap();
        std::thread::sleep(KILL_PAUSE);
    }
}

/// A cgroup of the container that tells of all its processes.
pub(crate) fn directory(plan: &Plan) -> Option<&Path> {
    let joined = plan.steps.iter().find_map(|step| match step {
        Step::JoinCgroup(tasks) => tasks.parent(),
        _ => None,
    });
    plan.cgroup_directory.as_deref().or(joined)
}

/// Kills the processes in a cgroup and in those below it, but for one. Returns whom it found.
pub(crate) fn kill(directory: &Path, but: Option<i32>) -> Vec<i32> {
    let mut found = members(directory);
    found.retain(|&pid| Some(pid) != but);
    for &pid in &found {
        let Some(pid) = rustix::process::Pid::from_raw(pid) else { continue };
        let process = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty());
        // The number may have become another's before the descriptor was taken.
        if let Ok(process) = process
            && members(directory).contains(&pid.as_raw_nonzero().get())
        {
            let _ = sys::pidfd_send_signal(process.as_fd(), libc::SIGKILL);
        }
    }
    found
}

/// The processes in a cgroup and in those that were made below it.
fn members(directory: &Path) -> Vec<i32> {
    let mut members = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        let text = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        members.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        let entries = std::fs::read_dir(&directory).into_iter().flatten().flatten();
        let is_directory = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        directories.extend(entries.filter(is_directory).map(|entry| entry.path()));
    }
    members
}
