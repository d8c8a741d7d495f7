//! Limits and reservations.

use coracle_proto::v1;

/// What was given; the rest stays.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ResourceChanges {
    /// Billionths of a processor; zero is no limit.
    pub limit_cpu: Option<u64>,
    /// Bytes; zero is no limit.
    pub limit_memory: Option<u64>,
    /// Processes and threads; zero is no limit.
    pub limit_pids: Option<u64>,
    /// Billionths of a processor.
    pub reserve_cpu: Option<u64>,
    /// Bytes.
    pub reserve_memory: Option<u64>,
}

/// The limits and reservations with the changes.
pub(crate) fn merge(
    limits: v1::Limits,
    reservations: v1::Resources,
    changes: &ResourceChanges,
) -> (v1::Limits, v1::Resources) {
    let limits = v1::Limits {
        nano_cpus: changes.limit_cpu.unwrap_or(limits.nano_cpus),
        memory_bytes: changes.limit_memory.unwrap_or(limits.memory_bytes),
        pids: changes.limit_pids.or(limits.pids),
        ..limits
    };
    let reservations = v1::Resources {
        nano_cpus: changes.reserve_cpu.unwrap_or(reservations.nano_cpus),
        memory_bytes: changes.reserve_memory.unwrap_or(reservations.memory_bytes),
    };
    (limits, reservations)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_given_changes() {
        let limits = v1::Limits { nano_cpus: 1, memory_bytes: 2, pids: Some(3), ..Default::default() };
        let reservations = v1::Resources { nano_cpus: 4, memory_bytes: 5 };
        assert_eq!(
            merge(limits.clone(), reservations, &ResourceChanges::default()),
            (limits.clone(), reservations)
        );
        let changes = ResourceChanges { limit_memory: Some(0), reserve_cpu: Some(9), ..Default::default() };
        let expected = (
            v1::Limits { memory_bytes: 0, ..limits.clone() },
            v1::Resources { nano_cpus: 9, ..reservations },
        );
        assert_eq!(merge(limits.clone(), reservations, &changes), expected);
        let all = ResourceChanges {
            limit_cpu: Some(6),
            limit_memory: Some(7),
            limit_pids: Some(8),
            reserve_cpu: Some(9),
            reserve_memory: Some(10),
        };
        let expected = (
            v1::Limits { nano_cpus: 6, memory_bytes: 7, pids: Some(8), ..Default::default() },
            v1::Resources { nano_cpus: 9, memory_bytes: 10 },
        );
        assert_eq!(merge(limits, reservations, &all), expected);
    }
}
