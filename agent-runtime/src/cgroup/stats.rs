//! What a container uses now.

use super::CgroupVersion;
use crate::error::{IoContext, RuntimeError};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Current use of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Memory in bytes without inactive file cache, as `docker stats` shows it.
    pub memory_bytes: u64,
    /// Memory limit in bytes; `None` is unlimited.
    pub memory_limit: Option<u64>,
    /// Processor time since the start, in nanoseconds.
    pub cpu_nanoseconds: u64,
    /// Processes and threads.
    pub pids: u64,
}

/// Above this a v1 limit means none (it is the largest number of pages).
const V1_UNLIMITED: u64 = 1 << 60;

pub(super) fn read(
    version: CgroupVersion,
    directory: impl Fn(&str) -> Option<PathBuf>,
) -> Result<Stats, RuntimeError> {
    let file = |controller: &str, name: &str| directory(controller).unwrap_or_default().join(name);
    let (usage, limit, inactive) = match version {
        CgroupVersion::V1 => ("memory.usage_in_bytes", "memory.limit_in_bytes", "total_inactive_file"),
        CgroupVersion::V2 => ("memory.current", "memory.max", "inactive_file"),
    };
    let used = number(&file("memory", usage))?.unwrap_or(0);
    let cache = keyed(&file("memory", "memory.stat"), inactive)?;
    let cpu_nanoseconds = match version {
        CgroupVersion::V1 => number(&file("cpuacct", "cpuacct.usage"))?.unwrap_or(0),
        CgroupVersion::V2 => keyed(&file("cpu", "cpu.stat"), "usage_usec")?.saturating_mul(1_000),
    };
    Ok(Stats {
        memory_bytes: used.saturating_sub(cache),
        memory_limit: number(&file("memory", limit))?.filter(|limit| *limit < V1_UNLIMITED),
        cpu_nanoseconds,
        pids: number(&file("pids", "pids.current"))?.unwrap_or(0),
    })
}

fn text(file: &Path) -> Result<String, RuntimeError> {
    fs::read_to_string(file).doing("reading the cgroup file", file)
}

/// `None` is the word "max".
fn number(file: &Path) -> Result<Option<u64>, RuntimeError> {
    match text(file)?.trim() {
        "max" => Ok(None),
        number => number
            .parse()
            .map(Some)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not a number"))
            .doing("reading the cgroup file", file),
    }
}

fn keyed(file: &Path, key: &str) -> Result<u64, RuntimeError> {
    let text = text(file)?;
    let value = text.lines().filter_map(|line| line.split_once(' ')).find(|(name, _)| *name == key);
    Ok(value.and_then(|(_, value)| value.trim().parse().ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_2_files() {
        let directory = tempfile::tempdir().unwrap();
        for (file, value) in [
            ("memory.current", "5000\n"),
            ("memory.max", "max\n"),
            ("memory.stat", "anon 1\ninactive_file 2000\n"),
            ("cpu.stat", "usage_usec 7\nuser_usec 3\n"),
            ("pids.current", "4\n"),
        ] {
            fs::write(directory.path().join(file), value).unwrap();
        }
        let stats = read(CgroupVersion::V2, |_| Some(directory.path().to_owned())).unwrap();
        assert_eq!(stats, Stats { memory_bytes: 3000, memory_limit: None, cpu_nanoseconds: 7000, pids: 4 });
    }
}
