//! Quantities of a machine: processor time, memory, process counts.

use std::fmt;

/// Least memory that a task may be limited to or reserve: 4 MiB.
pub const MEMORY_MINIMUM: MemoryBytes = MemoryBytes(4 << 20);
/// Least processor share that a task may be limited to or reserve: a thousandth of a processor.
pub const CPU_MINIMUM: NanoCpus = NanoCpus(1_000_000);

/// Billionths of one processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NanoCpus(pub u64);

/// Bytes of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MemoryBytes(pub u64);

impl fmt::Display for NanoCpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[expect(clippy::cast_precision_loss, reason = "shown to people, with few digits")]
        let cpus = self.0 as f64 / 1e9;
        cpus.fmt(f)
    }
}

impl fmt::Display for MemoryBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match UNITS.iter().find(|(size, _)| self.0 >= *size) {
            Some((size, unit)) if self.0.is_multiple_of(*size) => write!(f, "{}{unit}", self.0 / size),
            #[expect(clippy::cast_precision_loss, reason = "shown to people, with few digits")]
            Some((size, unit)) => write!(f, "{:.1}{unit}", self.0 as f64 / *size as f64),
            None => write!(f, "{}B", self.0),
        }
    }
}

/// What a node has, or what a task sets aside on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Resources {
    /// Processor time.
    pub cpu: NanoCpus,
    /// Memory.
    pub memory: MemoryBytes,
}

impl Resources {
    /// Both summed up.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            cpu: NanoCpus(self.cpu.0.saturating_add(other.cpu.0)),
            memory: MemoryBytes(self.memory.0.saturating_add(other.memory.0)),
        }
    }

    /// What is left after `other` is taken away, never below zero.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self {
            cpu: NanoCpus(self.cpu.0.saturating_sub(other.cpu.0)),
            memory: MemoryBytes(self.memory.0.saturating_sub(other.memory.0)),
        }
    }
}

/// Processes and threads that a container may have of which nobody says how many: far more than most need, and few enough that
/// one that does nothing but fork leaves the node to the others.
pub const DEFAULT_PIDS: u64 = 4096;

/// What a container may use at most; zero means no limit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Limits {
    /// Processor time.
    pub cpu: NanoCpus,
    /// Memory.
    pub memory: MemoryBytes,
    /// Processes and threads; none is [`DEFAULT_PIDS`].
    pub pids: Option<u64>,
    /// Swap in addition to the memory.
    pub swap: Swap,
    /// How readily memory is swapped out, 0 to 100; none is the node's setting. cgroup v1 only: cgroup v2 has no such control.
    pub swappiness: Option<u32>,
    /// Processors that it may run on, as `0-2,7`; empty is all.
    pub cpuset: String,
}

/// Swap in addition to a memory limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Swap {
    /// As much as the memory limit, Docker's rule.
    #[default]
    Default,
    /// So much at most.
    Bytes(u64),
    /// As much as there is.
    Unlimited,
}

/// What a node has of something that is not processor time or memory.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum GenericResource {
    /// So many of a kind that are not told apart.
    Count(u64),
    /// These, by name.
    Named(std::collections::BTreeSet<String>),
}

impl GenericResource {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        match self {
            Self::Count(count) => *count,
            Self::Named(names) => names.len() as u64,
        }
    }
}
