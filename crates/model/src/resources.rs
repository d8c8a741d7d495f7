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

/// What a container may use at most; zero means no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Limits {
    /// Processor time.
    pub cpu: NanoCpus,
    /// Memory.
    pub memory: MemoryBytes,
    /// Processes and threads.
    pub pids: u64,
}
