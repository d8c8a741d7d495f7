//! Commands that are run to the end, and what `/proc` says of processes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal};

/// Runs a command and gives its standard output.
///
/// # Errors
/// When it cannot be started or ends with another status than zero; its standard error is in the message.
pub fn output(command: &mut Command) -> Result<String> {
    let result = command.stdin(Stdio::null()).output().with_context(|| format!("start {command:?}"))?;
    if !result.status.success() {
        bail!("{command:?}: {}: {}", result.status, String::from_utf8_lossy(&result.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&result.stdout).into_owned())
}

/// A process that is told from a later one with the same number by the time of its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Process {
    /// Its number in the machine's own process namespace.
    pub pid: i32,
    /// Clock ticks from boot to its start (field 22 of proc_pid_stat(5)).
    pub started: u64,
}

impl Process {
    /// The process with this number, if there is one that has not ended.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        let stat = Stat::of(pid)?;
        let ended = matches!(stat.state, 'Z' | 'X') && threads(pid) <= 1;
        (!ended).then_some(Self { pid, started: stat.started })
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Sends a signal, unless the process has ended.
    ///
    /// # Errors
    /// When the kernel refuses for another reason than that it is gone.
    pub fn signal(self, signal: Signal) -> Result<()> {
        if !self.is_alive() {
            return Ok(());
        }
        let pid = Pid::from_raw(self.pid).context("process number zero")?;
        match rustix::process::kill_process(pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("signal process {}", self.pid)),
        }
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// When it still runs after `deadline`.
    pub fn wait_gone(self, deadline: Duration) -> Result<()> {
        wait(deadline, || (!self.is_alive()).then_some(()))
            .with_context(|| format!("process {} still runs after {deadline:?}", self.pid))
    }

    /// Memory that would be freed if it ended: its proportional set size, in bytes.
    #[must_use]
    pub fn proportional_memory(self) -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid)).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kibibytes * 1024)
    }
}

/// How many threads of a process there are. The first one may have ended while others still hold locks and files.
fn threads(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

/// The parts of `/proc/PID/stat` that the lab looks at.
#[derive(Debug, Clone, Copy)]
pub struct Stat {
    /// `R`, `S`, `D`, `T`, `Z`, ….
    pub state: char,
    /// The parent's number.
    pub parent: i32,
    /// User and system time in clock ticks.
    pub cpu_ticks: u64,
    /// Clock ticks from boot to the start.
    pub started: u64,
}

impl Stat {
    /// Reads it; nothing when there is no such process.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold anything, also spaces and parentheses.
        let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
        let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
        Some(Self {
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            cpu_ticks: number(11)? + number(12)?,
            started: number(19)?,
        })
    }
}

/// All process numbers of the machine.
#[must_use]
pub fn all() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The children of a process.
#[must_use]
pub fn children(parent: i32) -> Vec<i32> {
    all().into_iter().filter(|pid| Stat::of(*pid).is_some_and(|stat| stat.parent == parent)).collect()
}

/// Processes whose outermost-but-one number is a key, by that number: the processes of a namespace that
/// is a direct child of the machine's own, and of the containers in it.
#[must_use]
pub fn by_inner_number(init: i32) -> BTreeMap<i32, Process> {
    let wanted = descendants(init);
    let inner = |pid: i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
        numbers.split_whitespace().nth(1)?.parse::<i32>().ok()
    };
    wanted.into_iter().filter_map(|pid| Some((inner(pid)?, Process::of(pid)?))).collect()
}

/// A process and everything below it. Orphans inside a process namespace stay below its first process.
#[must_use]
pub fn descendants(root: i32) -> Vec<i32> {
    let parents: Vec<(i32, i32)> =
        all().into_iter().filter_map(|pid| Some((pid, Stat::of(pid)?.parent))).collect();
    let mut found = vec![root];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    found
}

/// Asks again and again, with short pauses, until there is an answer or the deadline has passed.
pub fn wait<T>(deadline: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether the caller is root.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether a program is found on the search path.
#[must_use]
pub fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
        || Path::new("/usr/sbin").join(name).is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_and_told_gone() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::of(i32::try_from(child.id()).unwrap()).unwrap();
        assert!(process.is_alive());
        assert!(process.proportional_memory().unwrap() > 0);
        assert!(children(i32::try_from(std::process::id()).unwrap()).contains(&process.pid));
        process.signal(Signal::KILL).unwrap();
        process.wait_gone(Duration::from_secs(10)).unwrap();
        child.wait().unwrap();
        assert_eq!(Process::of(process.pid), None);
    }

    #[test]
    fn a_command_that_fails_tells_what_it_said() {
        let error = output(Command::new("sh").args(["-c", "echo because >&2; exit 3"])).unwrap_err();
        assert!(error.to_string().contains("because"), "{error}");
    }
}
