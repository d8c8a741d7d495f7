//! The rest of a container: groups, health, names, logs, mounts, limits and placement.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use crate::generic;
use crate::health::{HealthConfig, HealthTest};
use crate::mount::{Mount, MountKind, Propagation, Recursive};
use crate::resources::{Limits, Swap};
use crate::secret::FileTarget;
use crate::service::{ContainerSpec, Dns, LogConfig, NetworkMode, TaskSpec};
use crate::template;
use crate::volume::is_volume_name;

use super::{Invalid, absolute, duration, invalid, labels, list, normal_path, text};

/// Least duration of a health check other than zero; Docker's.
const HEALTH_MINIMUM: Duration = Duration::from_millis(1);
/// Most files that the log of a container is kept in.
const LOG_FILES: u64 = 100;
/// How the names of variables begin that tell a task of its generic resources.
const GENERIC_VARIABLES: [&str; 2] = ["DOCKER_RESOURCE_", "CORACLE_RESOURCE_"];

pub(super) fn check(spec: &ContainerSpec) -> Result<(), Invalid> {
    list("entrypoint", spec.entrypoint.len())?;
    spec.entrypoint.iter().try_for_each(|word| text("entrypoint", word))?;
    if spec.entrypoint.len() > 1 && spec.entrypoint.first().is_some_and(String::is_empty) {
        return invalid("entrypoint", "", "the program is empty");
    }
    list("group", spec.groups.len())?;
    spec.groups.iter().try_for_each(|name| group(name))?;
    duration("pre-stop-delay", spec.pre_stop_delay)?;
    health(&spec.health)?;
    files(spec)?;
    dns(&spec.dns)?;
    list("host", spec.hosts.len())?;
    spec.hosts.iter().try_for_each(|line| host(line))?;
    if !(-1000..=1000).contains(&spec.oom_score_adj) {
        return invalid("oom-score-adj", spec.oom_score_adj, "use a whole number from -1000 to 1000");
    }
    log(&spec.log)
}

fn group(name: &str) -> Result<(), Invalid> {
    text("group", name)?;
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
    if name.is_empty() || name.contains(|c: char| c == ':' || c.is_whitespace()) {
        return invalid("group", name, "use a name or a number");
    }
    if is_number && !name.parse::<u32>().is_ok_and(|number| number <= i32::MAX as u32) {
        return invalid("group", name, "a number is at most 2147483647");
    }
    Ok(())
}

fn health(config: &HealthConfig) -> Result<(), Invalid> {
    for (field, value) in [
        ("health-interval", config.interval),
        ("health-timeout", config.timeout),
        ("health-start-period", config.start_period),
        ("health-start-interval", config.start_interval),
    ] {
        let Some(value) = value else { continue };
        duration(field, value)?;
        if value > Duration::ZERO && value < HEALTH_MINIMUM {
            return invalid(
                field,
                format!("{}ns", value.as_nanos()),
                "the minimum is 1ms; 0 is the image's own",
            );
        }
    }
    match &config.test {
        HealthTest::Image | HealthTest::Disabled => Ok(()),
        HealthTest::Shell(line) if line.is_empty() => invalid("health-cmd", "", "the command is empty"),
        HealthTest::Shell(line) => text("health-cmd", line),
        HealthTest::Command(words) => {
            list("health-cmd", words.len())?;
            words.iter().try_for_each(|word| text("health-cmd", word))?;
            match words.first() {
                Some(program) if !program.is_empty() => Ok(()),
                _ => invalid("health-cmd", "", "the command is empty"),
            }
        }
    }
}

fn files(spec: &ContainerSpec) -> Result<(), Invalid> {
    list("secret", spec.files.len())?;
    let mut targets = BTreeSet::new();
    for file in &spec.files {
        let field = file.kind.as_str();
        let target = match &file.target {
            FileTarget::File { path, mode, .. } => {
                text(field, path)?;
                if normal_path(path).is_empty()
                    || path.split('/').any(|part| part == "..")
                    || path.len() >= 4096
                {
                    return invalid(field, path, "the target is a path of a file, without '..'");
                }
                if *mode > 0o7777 {
                    return invalid(field, format!("{mode:o}"), "use permission bits up to 7777");
                }
                let root = if path.starts_with('/') { "" } else { field };
                format!("{root}:{}", normal_path(path))
            }
            FileTarget::Environment { variable } => {
                text(field, variable)?;
                if variable.is_empty() || variable.contains('=') {
                    return invalid(field, variable, "use the name of a variable, without '='");
                }
                if template::file::variable(spec, variable).is_some() {
                    return invalid(field, variable, "--env gives this variable, too; leave one of them out");
                }
                if GENERIC_VARIABLES.iter().any(|begin| variable.starts_with(begin)) {
                    let problem = "tasks are told of generic resources under such names; use another one";
                    return invalid(field, variable, problem);
                }
                format!("env={variable}")
            }
        };
        if !targets.insert(target) {
            return invalid(field, &file.name, "two secrets or configs have its target; each needs its own");
        }
    }
    Ok(())
}

fn dns(dns: &Dns) -> Result<(), Invalid> {
    for (field, values) in [("dns", &dns.servers), ("dns-option", &dns.options), ("dns-search", &dns.search)]
    {
        list(field, values.len())?;
        for value in values {
            text(field, value)?;
            if value.is_empty() || value.contains(char::is_whitespace) {
                return invalid(field, value, "it is not empty and has no white space");
            }
        }
    }
    let wrong = dns.servers.iter().find(|server| server.parse::<IpAddr>().is_err());
    wrong.map_or(Ok(()), |server| invalid("dns", server, "use an IP address, without a port"))
}

fn host(line: &str) -> Result<(), Invalid> {
    text("host", line)?;
    let good = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
    };
    let mut words = line.split(' ');
    let address = words.next().is_some_and(|word| word.parse::<IpAddr>().is_ok());
    let names: Vec<&str> = words.collect();
    if address && !names.is_empty() && names.into_iter().all(good) {
        return Ok(());
    }
    invalid(
        "host",
        line,
        "use NAME:ADDRESS with an IP address and a name of letters, digits, '-', '.' and '_'",
    )
}

fn log(log: &LogConfig) -> Result<(), Invalid> {
    if !matches!(log.driver.as_str(), "" | "local" | "none") {
        return invalid("log-driver", &log.driver, "use local or none");
    }
    for (key, value) in &log.options {
        if log.driver == "none" {
            return invalid("log-opt", format!("{key}={value}"), "the driver none has no options");
        }
        let good = match key.as_str() {
            "max-size" => is_size(value),
            "max-file" => value.parse::<u64>().is_ok_and(|files| (1..=LOG_FILES).contains(&files)),
            _ => {
                return invalid("log-opt", format!("{key}={value}"), "use max-size=BYTES or max-file=NUMBER");
            }
        };
        if !good {
            let problem = format!("max-size is bytes such as 10m, max-file a number from 1 to {LOG_FILES}");
            return invalid("log-opt", format!("{key}={value}"), problem);
        }
    }
    Ok(())
}

fn is_size(value: &str) -> bool {
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &value[digits.len()..];
    digits.parse::<u64>().is_ok_and(|number| number > 0)
        && matches!(unit.to_ascii_lowercase().as_str(), "" | "b" | "k" | "kb" | "m" | "mb" | "g" | "gb")
}

/// Checks what is mounted; the target was looked at before.
pub(super) fn mount(mount: &Mount) -> Result<(), Invalid> {
    match &mount.kind {
        MountKind::Bind { source, propagation, recursive, .. } => {
            absolute("mount source", source)?;
            let word = recursive.as_str();
            if matches!(recursive, Recursive::ReadOnly | Recursive::Writable) && !mount.read_only {
                return invalid(
                    "bind-recursive",
                    word,
                    "it goes with a mount that is read-only; add readonly",
                );
            }
            if *recursive == Recursive::ReadOnly && *propagation != Propagation::RecursivePrivate {
                return invalid("bind-recursive", word, "it goes with bind-propagation=rprivate only");
            }
            Ok(())
        }
        MountKind::Tmpfs { mode, .. } if *mode > 0o7777 => {
            invalid("tmpfs-mode", format!("{mode:o}"), "use permission bits up to 7777")
        }
        MountKind::Tmpfs { .. } => Ok(()),
        MountKind::Volume { name, labels: given, subpath, .. } => {
            if !name.is_empty() && !is_volume_name(name) {
                let problem = "a volume has a name of letters, digits, '_', '.' and '-'; for a path of the node use type=bind";
                return invalid("mount source", name, problem);
            }
            labels("volume-label", given)?;
            below("volume-subpath", subpath)
        }
        MountKind::Image { subpath, .. } => below("image-subpath", subpath),
    }
}

fn below(field: &'static str, path: &str) -> Result<(), Invalid> {
    text(field, path)?;
    if path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return invalid(field, path, "use a path below the root, without '..'");
    }
    Ok(())
}

/// Checks limits other than processor time and memory.
pub(super) fn limits(limits: &Limits) -> Result<(), Invalid> {
    if limits.swap != Swap::Default && limits.memory.0 == 0 {
        let value = match limits.swap {
            Swap::Bytes(bytes) => bytes.to_string(),
            Swap::Unlimited | Swap::Default => "-1".to_owned(),
        };
        return invalid("memory-swap", value, "it adds to a memory limit; give --limit-memory, too");
    }
    if let Some(swappiness) = limits.swappiness.filter(|swappiness| *swappiness > 100) {
        return invalid("memory-swappiness", swappiness, "use a number from 0 to 100");
    }
    if limits.cpuset.is_empty() || is_cpuset(&limits.cpuset) {
        return Ok(());
    }
    invalid("cpuset-cpus", &limits.cpuset, "use rising numbers and ranges, such as 0-2,7")
}

fn is_cpuset(text: &str) -> bool {
    let mut least = 0;
    text.split(',').all(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            if digits { text.parse::<u32>().ok().filter(|number| *number < 1 << 20) } else { None }
        };
        let (Some(first), Some(last)) = (number(first), number(last)) else { return false };
        let rising = first >= least && last >= first;
        least = last + 1;
        rising
    })
}

pub(super) fn placement(task: &TaskSpec) -> Result<(), Invalid> {
    let placement = &task.placement;
    list("constraint", placement.constraints.len())?;
    list("placement-pref", placement.preferences.len())?;
    list("anti-affinity", placement.away_from.len())?;
    list("publish", placement.host_ports.len())?;
    list("generic-resource", task.generic.len())?;
    if let Some(port) = placement.host_ports.first()
        && task.network != NetworkMode::Host
    {
        return invalid("publish", port, "a port of the node needs --network host");
    }
    for (kind, count) in &task.generic {
        text("generic-resource", kind)?;
        if !generic::is_kind(kind) || *count == 0 {
            let problem =
                "use KIND=NUMBER with a kind of letters, digits, '-', '_', '.' and '/', and 1 or more";
            return invalid("generic-resource", format!("{kind}={count}"), problem);
        }
    }
    Ok(())
}
