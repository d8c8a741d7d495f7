//! Killing everything in a cgroup, and in those that its processes made below it.

use rustix::fd::AsFd;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Killed processes need a moment to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// Kills until the cgroup is empty, and its processes have let go of what they had open. A cgroup that is not there is
/// empty.
pub(super) fn all(directory: &Path) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    // Linux 5.14, v2 only; elsewhere the loop does the work.
    let _ = super::write_existing(&directory.join("cgroup.kill"), "1");
    loop {
        let mut is_empty = true;
        for directory in with_those_below(directory)? {
            for pid in members(&directory)? {
                is_empty = false;
                kill_member(&directory, pid)?;
            }
        }
        if is_empty && !is_populated(directory)? {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "processes are left after they were killed"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Version 2 lists a process no more from the beginning of its end, when its files and mounts are still open; only from here
/// on it counts no more either (kernel: kernel/exit.c, `do_exit`; admin-guide/cgroup-v2, `cgroup.events`). Version 1 has
/// no such file, and lists it until then.
fn is_populated(directory: &Path) -> io::Result<bool> {
    match fs::read_to_string(directory.join("cgroup.events")) {
        Err(error) if is_gone(&error) => Ok(false),
        result => Ok(result?.lines().any(|line| line == "populated 1")),
    }
}

/// The number may belong to another process by now: the descriptor is taken first, and whoever it stands for is
/// killed only if the number is still listed.
fn kill_member(directory: &Path, pid: Pid) -> io::Result<()> {
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(()) };
    if members(directory)?.contains(&pid) {
        let _ = crate::sys::kill(process.as_fd());
    }
    Ok(())
}

/// The cgroup itself first. One that goes meanwhile has nobody in it.
fn with_those_below(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![directory.to_owned()];
    let mut at = 0;
    while let Some(directory) = found.get(at) {
        let entries = match fs::read_dir(directory) {
            Err(error) if is_gone(&error) => Vec::new(),
            result => result?.filter_map(Result::ok).collect(),
        };
        let is_directory = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        found.extend(entries.into_iter().filter(is_directory).map(|entry| entry.path()));
        at += 1;
    }
    Ok(found)
}

/// Removed, or removed while open.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

fn members(directory: &Path) -> io::Result<Vec<Pid>> {
    match fs::read_to_string(directory.join("cgroup.procs")) {
        Err(error) if is_gone(&error) => Ok(Vec::new()),
        // One of threads only: the one above, to which they belong, tells of their processes (kernel: admin-guide/cgroup-v2).
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(Vec::new()),
        result => Ok(result?.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_longer_listed_but_not_yet_gone_is_waited_for() {
        let cgroup = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| fs::write(cgroup.path().join(file), text).unwrap();
        write("cgroup.procs", "");
        write("cgroup.events", "populated 1\nfrozen 0\n");
        std::thread::scope(|scope| {
            let killing = scope.spawn(|| all(cgroup.path()));
            std::thread::sleep(Duration::from_millis(50));
            assert!(!killing.is_finished());
            let gone = cgroup.path().join("next");
            fs::write(&gone, "populated 0\nfrozen 0\n").unwrap();
            fs::rename(gone, cgroup.path().join("cgroup.events")).unwrap();
            killing.join().unwrap().unwrap();
        });
        fs::remove_file(cgroup.path().join("cgroup.events")).unwrap();
        all(cgroup.path()).unwrap();
    }
}
