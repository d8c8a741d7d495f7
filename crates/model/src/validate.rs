//! What makes a specification acceptable. Every refusal names the field, the value and the remedy.

mod files;

mod container;
mod placeholders;
mod policy;
mod rebalance;
mod rollout;
mod security;

pub use placeholders::filled;
pub use policy::policy;
pub use rebalance::rebalanceable;
pub use security::{IPC_SYSCTLS, ULIMITS};

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use crate::mount::Mount;
use crate::resources::{CPU_MINIMUM, Limits, MEMORY_MINIMUM, MemoryBytes, NanoCpus, Resources};
use crate::service::{ContainerSpec, ServiceMode, ServiceSpec, TaskSpec};

pub use files::files;

/// Most tasks that one service may ask for.
pub const REPLICAS_LIMIT: u64 = 100_000;
/// Longest list (arguments, environment, mounts, labels, constraints) in a specification.
pub const LIST_LIMIT: usize = 1024;
/// Longest text in a specification, in bytes.
pub const TEXT_LIMIT: usize = 128 * 1024;
/// Longest wait that may be asked for.
pub const DURATION_LIMIT: Duration = Duration::from_secs(365 * 24 * 3600);
/// Processors at most, to keep sums far from overflow.
pub const CPU_LIMIT: NanoCpus = NanoCpus(1_000_000 * 1_000_000_000);
/// Memory at most: one exbibyte.
pub const MEMORY_LIMIT: MemoryBytes = MemoryBytes(1 << 60);

/// One thing that is wrong with a specification.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: invalid value {value:?}: {problem}")]
pub struct Invalid {
    /// The field, in the command line's words.
    pub field: &'static str,
    /// What was given.
    pub value: String,
    /// What is wrong with it and what would be right.
    pub problem: String,
}

fn invalid<T>(
    field: &'static str,
    value: impl fmt::Display,
    problem: impl Into<String>,
) -> Result<T, Invalid> {
    let mut value = value.to_string();
    if value.len() > 200 {
        let cut = (0..=200).rev().find(|at| value.is_char_boundary(*at)).unwrap_or(0);
        value.truncate(cut);
        value.push('…');
    }
    Err(Invalid { field, value, problem: problem.into() })
}

/// Checks a whole service specification.
///
/// # Errors
/// The first thing that is wrong.
pub fn service(spec: &ServiceSpec) -> Result<(), Invalid> {
    labels("label", &spec.labels)?;
    mode(spec.mode)?;
    rollout::check(spec)?;
    rebalance::check(spec)?;
    if spec.mode.is_per_node() && spec.task.placement.max_replicas_per_node > 0 {
        return invalid(
            "replicas-max-per-node",
            spec.task.placement.max_replicas_per_node,
            "a global service has one task on each node; leave this out",
        );
    }
    placeholders::check(spec, task)
}

fn mode(mode: ServiceMode) -> Result<(), Invalid> {
    match mode {
        ServiceMode::Replicated { replicas } if replicas > REPLICAS_LIMIT => {
            invalid("replicas", replicas, format!("at most {REPLICAS_LIMIT} tasks are possible"))
        }
        ServiceMode::ReplicatedJob { completions, .. } if completions > REPLICAS_LIMIT => {
            invalid("replicas", completions, format!("at most {REPLICAS_LIMIT} tasks are possible"))
        }
        _ => Ok(()),
    }
}

fn task(spec: &TaskSpec) -> Result<(), Invalid> {
    container(&spec.container)?;
    resources("limit", spec.limits.cpu, spec.limits.memory)?;
    resources("reserve", spec.reservations.cpu, spec.reservations.memory)?;
    limits_hold_reservations(&spec.limits, &spec.reservations)?;
    container::limits(&spec.limits)?;
    container::placement(spec)?;
    security::check(spec)?;
    duration("restart-delay", spec.restart.delay)?;
    duration("restart-window", spec.restart.window)
}

fn container(spec: &ContainerSpec) -> Result<(), Invalid> {
    list("args", spec.args.len())?;
    spec.args.iter().try_for_each(|arg| text("args", arg))?;
    list("env", spec.env.len())?;
    spec.env.iter().try_for_each(|variable| environment(variable))?;
    text("workdir", &spec.workdir)?;
    if !spec.workdir.is_empty() {
        absolute("workdir", &spec.workdir)?;
    }
    text("user", &spec.user)?;
    hostname(&spec.hostname)?;
    labels("container-label", &spec.labels)?;
    mounts(&spec.mounts)?;
    container::check(spec)?;
    duration("stop-grace-period", spec.stop_grace)?;
    if spec.stop_signal.is_empty() || signal_number(&spec.stop_signal).is_some() {
        Ok(())
    } else {
        invalid("stop-signal", &spec.stop_signal, "use a name such as SIGTERM or a number from 1 to 64")
    }
}

fn environment(variable: &str) -> Result<(), Invalid> {
    text("env", variable)?;
    match variable.split_once('=') {
        Some((name, _)) if !name.is_empty() => Ok(()),
        _ => invalid("env", variable, "use KEY=VALUE"),
    }
}

fn hostname(name: &str) -> Result<(), Invalid> {
    // hostname(7): 64 characters of letters, digits, '-' and '.', labels of at most 63.
    let good = name.len() <= 64
        && (name.is_empty()
            || name.split('.').all(|label| {
                (1..=63).contains(&label.len())
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            }));
    if good {
        Ok(())
    } else {
        invalid("hostname", name, "use letters, digits, '-' and '.', at most 64 characters")
    }
}

fn mounts(mounts: &[Mount]) -> Result<(), Invalid> {
    list("mount", mounts.len())?;
    let mut targets = BTreeSet::new();
    for mount in mounts {
        absolute("mount target", &mount.target)?;
        if mount.target.split('/').all(|part| part.is_empty() || part == ".") {
            return invalid(
                "mount target",
                &mount.target,
                "the root of the container cannot be mounted over",
            );
        }
        if !targets.insert(normal_path(&mount.target)) {
            return invalid("mount target", &mount.target, "two mounts have this target; each needs its own");
        }
        container::mount(mount)?;
    }
    Ok(())
}

fn normal_path(path: &str) -> String {
    let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    parts.join("/")
}

fn absolute(field: &'static str, path: &str) -> Result<(), Invalid> {
    text(field, path)?;
    if !path.starts_with('/') {
        return invalid(field, path, "use an absolute path");
    }
    if path.split('/').any(|part| part == "..") {
        return invalid(field, path, "a path with '..' is not accepted");
    }
    if path.len() >= 4096 { invalid(field, path, "a path is at most 4095 bytes long") } else { Ok(()) }
}

/// Checks a cpu and a memory figure that both belong to `--limit-…` or `--reserve-…`.
fn resources(kind: &'static str, cpu: NanoCpus, memory: MemoryBytes) -> Result<(), Invalid> {
    let (cpu_field, memory_field) =
        if kind == "limit" { ("limit-cpu", "limit-memory") } else { ("reserve-cpu", "reserve-memory") };
    if cpu.0 != 0 && cpu < CPU_MINIMUM {
        return invalid(cpu_field, cpu, format!("the minimum is {CPU_MINIMUM} cpus"));
    }
    if cpu > CPU_LIMIT {
        return invalid(cpu_field, cpu, format!("the maximum is {CPU_LIMIT} cpus"));
    }
    if memory.0 != 0 && memory < MEMORY_MINIMUM {
        return invalid(memory_field, memory, format!("the minimum is {MEMORY_MINIMUM}"));
    }
    if memory > MEMORY_LIMIT {
        return invalid(memory_field, memory, "more than any machine has");
    }
    Ok(())
}

fn limits_hold_reservations(limits: &Limits, reservations: &Resources) -> Result<(), Invalid> {
    if limits.cpu.0 != 0 && reservations.cpu > limits.cpu {
        return invalid(
            "reserve-cpu",
            reservations.cpu,
            format!("more than the limit of {} cpus", limits.cpu),
        );
    }
    if limits.memory.0 != 0 && reservations.memory > limits.memory {
        return invalid(
            "reserve-memory",
            reservations.memory,
            format!("more than the limit of {}", limits.memory),
        );
    }
    Ok(())
}

/// Checks labels of a service, a container or a node.
///
/// # Errors
/// The first label that is wrong.
pub fn labels(field: &'static str, labels: &BTreeMap<String, String>) -> Result<(), Invalid> {
    list(field, labels.len())?;
    for (key, value) in labels {
        text(field, key)?;
        text(field, value)?;
        if key.is_empty() || key.contains(char::is_whitespace) || key.contains('=') {
            return invalid(
                field,
                format!("{key}={value}"),
                "a label's key is not empty and has no white space or '='",
            );
        }
    }
    Ok(())
}

fn list(field: &'static str, length: usize) -> Result<(), Invalid> {
    if length > LIST_LIMIT {
        invalid(field, length, format!("at most {LIST_LIMIT} entries are possible"))
    } else {
        Ok(())
    }
}

fn text(field: &'static str, value: &str) -> Result<(), Invalid> {
    if value.len() > TEXT_LIMIT {
        return invalid(field, value, format!("longer than {TEXT_LIMIT} bytes"));
    }
    if value.contains('\0') { invalid(field, value, "a zero byte is not accepted") } else { Ok(()) }
}

fn duration(field: &'static str, value: Duration) -> Result<(), Invalid> {
    if value > DURATION_LIMIT {
        return invalid(field, format!("{}s", value.as_secs()), "at most one year is possible");
    }
    Ok(())
}

const SIGNALS: [(&str, i32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// The number of a signal given by name (`SIGTERM`, `term`), by number, or as `RTMIN+n`; Linux numbers of
/// x86-64 and arm64 (signal(7)).
#[must_use]
pub fn signal_number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = name.strip_prefix("RTMIN") {
        let offset = if offset.is_empty() { 0 } else { offset.strip_prefix('+')?.parse::<i32>().ok()? };
        return (0..=30).contains(&offset).then_some(34 + offset);
    }
    SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

#[cfg(test)]
mod tests;
