//! What a task may use, and what is set aside for it.

use coracle_proto::v1;

use crate::cmd::service::merge::resources::{self, ResourceChanges};
use crate::opt::{FlagError, bytes, count, cpus};

/// Flags of limits and reservations.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct ResourceFlags {
    /// Processors that a task may use at most, such as 0.5; 0 is no limit
    #[arg(long, value_name = "CPUS", allow_hyphen_values = true, value_parser = cpus::parser("limit-cpu"))]
    limit_cpu: Option<u64>,
    /// Memory that a task may use at most, such as 64m; 0 is no limit
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, value_parser = bytes::parser("limit-memory"))]
    limit_memory: Option<u64>,
    /// Processes and threads of a task at most, 4096 unless given; 0 is no limit
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, value_parser = count::parser("limit-pids"))]
    limit_pids: Option<u64>,
    /// Processors that are set aside for a task
    #[arg(long, value_name = "CPUS", allow_hyphen_values = true, value_parser = cpus::parser("reserve-cpu"))]
    reserve_cpu: Option<u64>,
    /// Memory that is set aside for a task
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, value_parser = bytes::parser("reserve-memory"))]
    reserve_memory: Option<u64>,
    /// Swap in addition to the memory limit: bytes, -1 (no limit) or default (as much as the memory limit)
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, value_parser = swap)]
    memory_swap: Option<Swap>,
    /// How readily memory is swapped out, 0 to 100; -1 is the node's setting
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, value_parser = swappiness)]
    memory_swappiness: Option<Swappiness>,
    /// Processors that a task may run on, such as 0-2,7; empty is all
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Adjustment of the kernel's choice when memory runs out, -1000 to 1000
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, value_parser = oom_score_adj)]
    oom_score_adj: Option<i32>,
    /// Size of /dev/shm, such as 128m; 0 is the default of 64m
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, value_parser = bytes::parser("shm-size"))]
    shm_size: Option<u64>,
}

/// As in the messages: none is the default, negative is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Swap(Option<i64>);

/// None is the node's setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Swappiness(Option<u32>);

fn swap(text: &str) -> Result<Swap, FlagError> {
    let refuse = || FlagError::new("memory-swap", text, "use bytes such as 64m, -1 for no limit, or default");
    match text {
        "default" => Ok(Swap(None)),
        "-1" => Ok(Swap(Some(-1))),
        _ => bytes::parse("memory-swap", text)
            .ok()
            .and_then(|bytes| i64::try_from(bytes).ok())
            .map(|bytes| Swap(Some(bytes)))
            .ok_or_else(refuse),
    }
}

fn swappiness(text: &str) -> Result<Swappiness, FlagError> {
    let refuse = || FlagError::new("memory-swappiness", text, "use a number from 0 to 100, or -1");
    match text.parse::<i64>() {
        Ok(-1) => Ok(Swappiness(None)),
        Ok(number @ 0..=100) => Ok(Swappiness(u32::try_from(number).ok())),
        _ => Err(refuse()),
    }
}

fn oom_score_adj(text: &str) -> Result<i32, FlagError> {
    let number = text.parse::<i32>().ok().filter(|number| (-1000..=1000).contains(number));
    number.ok_or_else(|| FlagError::new("oom-score-adj", text, "use a whole number from -1000 to 1000"))
}

impl ResourceFlags {
    /// Sets in the task what was given, and leaves the rest.
    pub(crate) fn apply(&self, task: &mut v1::TaskSpec) {
        let (mut limits, reservations) = resources::merge(
            task.limits.take().unwrap_or_default(),
            task.reservations.unwrap_or_default(),
            &self.changes(),
        );
        if let Some(Swap(swap)) = self.memory_swap {
            limits.swap_bytes = swap;
        }
        if let Some(Swappiness(swappiness)) = self.memory_swappiness {
            limits.swappiness = swappiness;
        }
        super::set(&mut limits.cpuset, &self.cpuset_cpus);
        task.limits = Some(limits);
        task.reservations = Some(reservations);
        let container = task.container.get_or_insert_default();
        super::set(&mut container.oom_score_adj, &self.oom_score_adj);
        super::set(&mut container.shm_size, &self.shm_size);
    }

    const fn changes(&self) -> ResourceChanges {
        ResourceChanges {
            limit_cpu: self.limit_cpu,
            limit_memory: self.limit_memory,
            limit_pids: self.limit_pids,
            reserve_cpu: self.reserve_cpu,
            reserve_memory: self.reserve_memory,
        }
    }
}
