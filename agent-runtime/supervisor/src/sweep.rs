//! Ends what hooks leave running. They are root and may do all that the daemon may: whatever stays of them outlives the
//! container, or is in it with nothing of what restricts its program.

use crate::error::CallError;
use crate::supervise::reap;
use crate::{rest, sys};
use coracle_runtime_protocol::{FailureKind, Plan};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions};
use std::time::{Duration, Instant};

/// How long killed processes may take to be gone. Who takes longer waits for a device or a file system.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(2);
/// Whether a process has ended, without reaping it.
pub(crate) const PEEK: WaitIdOptions =
    WaitIdOptions::EXITED.union(WaitIdOptions::NOHANG).union(WaitIdOptions::NOWAIT);

/// For a supervisor: kills and reaps all its children but init, until there are none. It is given the orphans of its children
/// (`PR_SET_CHILD_SUBREAPER`), so those are found too that made a session of their own.
pub(crate) fn end_children(init: i32) -> Result<(), CallError> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    until_none(|| {
        let mut left = children(own);
        left.retain(|&child| child != init);
        for &child in &left {
            // Nobody else reaps it, so the number is still its own.
            let _ = sys::kill(child, libc::SIGKILL);
            if let Some(child) = Pid::from_raw(child) {
                let _ = rustix::process::waitid(
                    WaitId::Pid(child),
                    WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
                );
            }
        }
        left
    })
}

/// For init: kills every other process of the container, which has none of its own yet.
pub(crate) fn end_others(plan: &Plan) -> Result<(), CallError> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    // Who is not the first of a process namespace shares that of the host, where kill(-1) would end the host.
    if own == 1 {
        return until_none(end_namespace);
    }
    let Some(directory) = rest::directory(plan) else { return Ok(()) };
    until_none(|| rest::kill(directory, Some(own)))
}

/// Returns a number for "some", since kill(2) does not say who they are.
fn end_namespace() -> Vec<i32> {
    while let Ok(Some(_)) =
        rustix::process::waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
    {}
    match sys::kill(-1, libc::SIGKILL) {
        Err(Errno::SRCH) => Vec::new(),
        _ => vec![-1],
    }
}

/// `kill` returns whom it found, in order to be called again.
fn until_none(mut kill: impl FnMut() -> Vec<i32>) -> Result<(), CallError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = kill();
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            let which = left.iter().filter(|&&pid| pid > 0).map(ToString::to_string).collect::<Vec<_>>();
            let which =
                if which.is_empty() { String::new() } else { format!(" (process {})", which.join(", ")) };
            return Err(CallError::refused(
                FailureKind::Other,
                format!(
                    "what it left running{which} cannot be killed, since it waits for a device or a file system"
                ),
            ));
        }
        std::thread::sleep(PAUSE);
    }
}

/// The children of a process. Not from `/proc/PID/task/TID/children`, which not every kernel has (proc_pid_task(5)).
fn children(parent: i32) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    processes.filter(|process| parent_of(*process) == Some(parent)).collect()
}

/// The name, in parentheses, may contain anything (proc_pid_stat(5)).
fn parent_of(process: i32) -> Option<i32> {
    let text = std::fs::read(format!("/proc/{process}/stat")).ok()?;
    let text = String::from_utf8_lossy(&text);
    text.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// How long an init that was killed may take to be gone. It may wait for a file system, and its failure is to be told.
const INIT_PATIENCE: Duration = Duration::from_secs(3);
const INIT_PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Kills and reaps an init that failed. It cannot end before all of its process namespace is reaped, also what of that is our
/// child (zap_pid_ns_processes in kernel/pid_namespace.c).
pub(crate) fn end_init(init: BorrowedFd<'_>, init_pid: i32) {
    let _ = sys::pidfd_send_signal(init, libc::SIGKILL);
    let deadline = Instant::now() + INIT_PATIENCE;
    while Instant::now() < deadline {
        let _ = poll(&mut [PollFd::new(&init, PollFlags::IN)], Some(&INIT_PAUSE));
        if reap(init, WaitIdOptions::EXITED | WaitIdOptions::NOHANG).is_some() {
            return;
        }
        reap_children_but(init_pid, None);
    }
}

/// Reaps what has ended of the children but init and another one. That has to be a child of its own.
pub(crate) fn reap_children_but(init_pid: i32, other: Option<BorrowedFd<'_>>) {
    while let Some(ended) = sys::ended_child(PEEK.bits())
        && ended != init_pid
        && other.is_none_or(|other| reap(other, PEEK).is_none())
        && let Some(ended) = Pid::from_raw(ended)
        && rustix::process::waitid(WaitId::Pid(ended), WaitIdOptions::EXITED | WaitIdOptions::NOHANG).is_ok()
    {
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_are_known_whatever_the_name() {
        let parent = rustix::process::getppid().unwrap().as_raw_nonzero().get();
        assert_eq!(parent_of(rustix::process::getpid().as_raw_nonzero().get()), Some(parent));
        assert_eq!(parent_of(i32::MAX), None);
        assert!(children(parent).contains(&rustix::process::getpid().as_raw_nonzero().get()));
    }

    #[test]
    fn who_cannot_be_killed_is_told() {
        let mut rounds = 3;
        let few = || {
            rounds -= 1;
            vec![7; rounds]
        };
        until_none(few).unwrap();
        let error = until_none(|| vec![7, 8]).unwrap_err();
        assert!(error.call.contains("(process 7, 8) cannot be killed"), "{}", error.call);
    }
}
