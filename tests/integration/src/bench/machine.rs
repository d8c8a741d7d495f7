//! What is measured on: the machine, the programs with their versions, and the load that others make.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Instant;

use serde::Serialize;

use super::tree::{self, Tree};

/// The machine and the versions of what runs on it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Machine {
    /// Seconds since 1970 at the start.
    started: u64,
    kernel: String,
    processor: String,
    cores: usize,
    memory_mib: u64,
    cgroups: String,
    /// The profile that the product was built with.
    profile: String,
    repetitions: u32,
    versions: BTreeMap<String, String>,
}

impl Machine {
    /// Looks at the machine.
    pub(super) fn look(profile: &str, repetitions: u32) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let unified = fs::exists("/sys/fs/cgroup/cgroup.controllers").unwrap_or(false);
        let memory = field("/proc/meminfo", "MemTotal:");
        let kibibytes: u64 = memory.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(0);
        Self {
            started: now.as_secs(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            processor: field("/proc/cpuinfo", "model name").trim_start_matches([':', ' ', '\t']).to_owned(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: kibibytes / 1024,
            cgroups: if unified { "v2" } else { "v1" }.to_owned(),
            profile: profile.to_owned(),
            repetitions,
            versions: BTreeMap::new(),
        }
    }

    /// Notes what a program says of its version.
    pub(super) fn version(&mut self, name: &str, program: &mut Command) {
        let said = program.output().map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let line = said.unwrap_or_default().lines().next().unwrap_or("unknown").trim().to_owned();
        self.versions.insert(name.to_owned(), line);
    }

    /// The same in words, one fact a line.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            format!(
                "kernel {}, {} cores ({}), {} MiB, cgroups {}",
                self.kernel, self.cores, self.processor, self.memory_mib, self.cgroups
            ),
            format!("product built with profile {}; {} repetitions", self.profile, self.repetitions),
        ];
        lines.extend(self.versions.iter().map(|(name, version)| format!("{name}: {version}")));
        lines
    }
}

/// What stands behind a word at the beginning of a line.
fn field(path: &str, word: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix(word)).unwrap_or_default().trim().to_owned()
}

/// Watches how much of the machine others use.
#[derive(Debug)]
pub(super) struct Watch {
    start: Instant,
    own: f64,
    machine: f64,
    stolen: f64,
}

/// What a watch has seen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    /// How long it lasted, in seconds.
    pub(super) seconds: f64,
    /// Cores that others used, kernel threads included.
    pub(super) others: f64,
    /// Cores that the hypervisor kept.
    pub(super) stolen: f64,
}

impl Watch {
    /// Begins.
    pub(super) fn start() -> Self {
        let (machine, stolen) = tree::machine_seconds();
        Self { start: Instant::now(), own: own_seconds(), machine, stolen }
    }

    /// What was seen since then. Everything that is measured is below this program, also the hosts.
    pub(super) fn load(&self) -> Load {
        let seconds = self.start.elapsed().as_secs_f64();
        let (machine, stolen) = tree::machine_seconds();
        let others = (machine - self.machine) - (own_seconds() - self.own);
        Load { seconds, others: (others / seconds).max(0.0), stolen: (stolen - self.stolen) / seconds }
    }
}

fn own_seconds() -> f64 {
    i32::try_from(std::process::id()).map_or(0.0, |own| Tree::look().seconds(own))
}
