//! Killing everything in a cgroup.

use rustix::fd::AsFd;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// Killed processes need a moment to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// Kills until the cgroup is empty. A cgroup that is not there is empty.
pub(super) fn all(directory: &Path) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    // Linux 5.14, v2 only; elsewhere the loop does the work.
    let _ = super::write_existing(&directory.join("cgroup.kill"), "1");
    loop {
        let members = members(directory)?;
        if members.is_empty() {
            return Ok(());
        }
        for pid in members {
            kill_member(directory, pid)?;
        }
        if Instant::now() > deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "processes are left after they were killed"));
        }
        std::thread::sleep(Duration::from_millis(1));
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

fn members(directory: &Path) -> io::Result<Vec<Pid>> {
    match fs::read_to_string(directory.join("cgroup.procs")) {
        // Removed, or removed while open.
        Err(error)
            if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV) =>
        {
            Ok(Vec::new())
        }
        result => Ok(result?.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)).collect()),
    }
}
