//! Limits on cgroup v2 (kernel: Documentation/admin-guide/cgroup-v2.rst).

use super::{Write, v1};
use crate::spec::Resources;
use std::fs;
use std::path::Path;

/// Controllers that containers need.
const CONTROLLERS: &[&str] = &["cpu", "memory", "pids"];

pub(super) fn writes(resources: &Resources) -> Vec<Write> {
    let mut writes = Vec::new();
    if let Some(memory) = resources.memory_bytes {
        let total = resources.memory_swap.unwrap_or(memory.saturating_mul(2)).max(memory);
        writes.push(Write::new("memory", "memory.max", memory));
        writes.push(Write::new("memory", "memory.swap.max", total - memory).optional());
    }
    if let Some(pids) = resources.pids {
        writes.push(Write::new("pids", "pids.max", pids));
    }
    if let Some(cpu) = resources.cpu_nano {
        writes.push(Write::new("cpu", "cpu.max", format!("{} {}", v1::quota(cpu), v1::PERIOD)));
    }
    writes
}

/// Hands the controllers down one level. What cannot be handed down shows at the bottom, in
/// [`missing_controllers`].
pub(super) fn enable_controllers(directory: &Path) {
    for controller in CONTROLLERS {
        let _ = super::write_existing(&directory.join("cgroup.subtree_control"), &format!("+{controller}"));
    }
}

/// Controllers that the children of a cgroup will not have.
pub(super) fn missing_controllers(directory: &Path) -> Vec<&'static str> {
    let enabled = fs::read_to_string(directory.join("cgroup.subtree_control")).unwrap_or_default();
    let enabled: Vec<&str> = enabled.split_whitespace().collect();
    CONTROLLERS.iter().copied().filter(|controller| !enabled.contains(controller)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let lines = |resources: &Resources| -> Vec<String> {
            writes(resources).iter().map(|write| format!("{}={}", write.file, write.value)).collect()
        };
        let none = Resources { pids: None, ..Resources::default() };
        assert!(lines(&none).is_empty());
        let all = Resources {
            cpu_nano: Some(250_000_000),
            memory_bytes: Some(1000),
            memory_swap: Some(1000),
            pids: Some(7),
        };
        assert_eq!(
            lines(&all),
            ["memory.max=1000", "memory.swap.max=0", "pids.max=7", "cpu.max=25000 100000"]
        );
    }
}
