//! Limits on cgroup v1 (kernel: Documentation/admin-guide/cgroup-v1).

use super::Write;
use super::devices::Rule;
use crate::spec::Resources;

/// The kernel's default period in microseconds.
pub(super) const PERIOD: u64 = 100_000;
/// The kernel refuses shorter quotas.
const SHORTEST_QUOTA: u64 = 1_000;

/// Processor time per [`PERIOD`], in microseconds, for a number of billionths of a processor.
pub(super) fn quota(cpu_nano: u64) -> u64 {
    let quota = u128::from(cpu_nano) * u128::from(PERIOD) / 1_000_000_000;
    u64::try_from(quota).unwrap_or(u64::MAX).max(SHORTEST_QUOTA)
}

/// Memory first: the sum of memory and swap may never be below it.
pub(super) fn writes(resources: &Resources) -> Vec<Write> {
    let mut writes = Vec::new();
    if let Some(memory) = resources.memory_bytes {
        writes.push(Write::new("memory", "memory.limit_in_bytes", memory));
        const SWAP: &str = "memory.memsw.limit_in_bytes";
        writes.push(match resources.memory_swap {
            None => Write::new("memory", SWAP, memory.saturating_mul(2)).optional(),
            Some(u64::MAX) => Write::new("memory", SWAP, "-1").asked_for("limits.swap"),
            Some(total) => Write::new("memory", SWAP, total.max(memory)).asked_for("limits.swap"),
        });
    }
    if let Some(swappiness) = resources.swappiness {
        writes.push(Write::new("memory", "memory.swappiness", swappiness).asked_for("limits.swappiness"));
    }
    if let Some(pids) = resources.pids {
        writes.push(Write::new("pids", "pids.max", pids));
    }
    if let Some(cpu) = resources.cpu_nano {
        writes.push(Write::new("cpu", "cpu.cfs_period_us", PERIOD));
        writes.push(Write::new("cpu", "cpu.cfs_quota_us", quota(cpu)));
    }
    writes
}

/// Everything is denied, then the rules are allowed one by one.
pub(super) fn device_writes(rules: &[Rule]) -> Vec<Write> {
    let allow = rules.iter().map(|rule| Write::new("devices", "devices.allow", rule));
    [Write::new("devices", "devices.deny", "a")].into_iter().chain(allow).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(writes: &[Write]) -> Vec<String> {
        writes.iter().map(|write| format!("{}={}", write.file, write.value)).collect()
    }

    #[test]
    fn table() {
        let none = Resources { pids: None, ..Resources::default() };
        assert!(writes(&none).is_empty());
        assert_eq!(lines(&writes(&Resources::default())), ["pids.max=4096"]);
        let cpu = Resources { cpu_nano: Some(1_500_000_000), ..none.clone() };
        assert_eq!(lines(&writes(&cpu)), ["cpu.cfs_period_us=100000", "cpu.cfs_quota_us=150000"]);
        let tiny = Resources { cpu_nano: Some(1), ..none.clone() };
        assert_eq!(lines(&writes(&tiny))[1], "cpu.cfs_quota_us=1000");
        let memory = Resources { memory_bytes: Some(1000), ..none.clone() };
        assert_eq!(
            lines(&writes(&memory)),
            ["memory.limit_in_bytes=1000", "memory.memsw.limit_in_bytes=2000"]
        );
        let swap = Resources { memory_bytes: Some(1000), memory_swap: Some(1500), ..none };
        assert_eq!(lines(&writes(&swap))[1], "memory.memsw.limit_in_bytes=1500");
    }
}
