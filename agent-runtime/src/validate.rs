//! Refusing specifications that cannot or must not be carried out, before anything is made.

use crate::error::RuntimeError;
use crate::exec::ExecSpec;
use crate::selinux;
use crate::spec::{ContainerSpec, Device, Mount, Network, Propagation, ResourceLimit, Rootfs, User};
use coracle_runtime_protocol::REQUEST_BYTES;
use std::path::Path;

/// Docker's lower bound: less cannot even be set up.
const LEAST_MEMORY: u64 = 6 << 20;
/// One page.
const LEAST_SHARED_MEMORY: u64 = 4096;
/// The overlay options must fit in one page together with everything else.
const MOST_LAYERS: usize = 400;
/// Host names longer than this are refused by sethostname(2).
const LONGEST_HOSTNAME: usize = 64;

/// `RLIMIT_*` numbers by Docker's names.
const RESOURCE_LIMITS: &[(&str, u32)] = &[
    ("as", libc::RLIMIT_AS),
    ("core", libc::RLIMIT_CORE),
    ("cpu", libc::RLIMIT_CPU),
    ("data", libc::RLIMIT_DATA),
    ("fsize", libc::RLIMIT_FSIZE),
    ("locks", libc::RLIMIT_LOCKS),
    ("memlock", libc::RLIMIT_MEMLOCK),
    ("msgqueue", libc::RLIMIT_MSGQUEUE),
    ("nice", libc::RLIMIT_NICE),
    ("nofile", libc::RLIMIT_NOFILE),
    ("nproc", libc::RLIMIT_NPROC),
    ("rss", libc::RLIMIT_RSS),
    ("rtprio", libc::RLIMIT_RTPRIO),
    ("rttime", libc::RLIMIT_RTTIME),
    ("sigpending", libc::RLIMIT_SIGPENDING),
    ("stack", libc::RLIMIT_STACK),
];

/// Kernel parameters of the IPC namespace.
pub const IPC_PARAMETERS: &[&str] = &[
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
    "fs.mqueue.msg_default",
    "fs.mqueue.msg_max",
    "fs.mqueue.msgsize_default",
    "fs.mqueue.msgsize_max",
    "fs.mqueue.queues_max",
];

fn refused(field: &'static str, value: impl ToString, why: impl Into<String>) -> RuntimeError {
    RuntimeError::InvalidSpec { field, value: value.to_string(), why: why.into() }
}

/// Names that a [`ResourceLimit`] may have.
pub fn resource_limit_names() -> impl Iterator<Item = &'static str> {
    RESOURCE_LIMITS.iter().map(|(name, _)| *name)
}

/// The number of a resource limit's name.
pub(crate) fn resource_limit_number(name: &str) -> Option<i32> {
    let (_, number) = RESOURCE_LIMITS.iter().find(|(known, _)| *known == name)?;
    i32::try_from(*number).ok()
}

/// Checks everything that can be checked without touching the host.
pub(crate) fn check(spec: &ContainerSpec) -> Result<(), RuntimeError> {
    rootfs(&spec.rootfs)?;
    program(spec)?;
    user(&spec.user)?;
    if let Some(name) = &spec.hostname {
        hostname(name)?;
    }
    for mount in &spec.mounts {
        check_mount(mount)?;
    }
    if let Network::Path(path) = &spec.network
        && !path.is_absolute()
    {
        return Err(refused("network", path.display(), "the path of a network namespace must be absolute"));
    }
    resources(spec)?;
    for limit in &spec.resource_limits {
        resource_limit(limit)?;
    }
    for (name, value) in &spec.sysctls {
        kernel_parameter(name, value, spec.network == Network::Host)?;
        if spec.host_namespaces.ipc && !name.starts_with("net.") {
            return Err(refused(
                "kernel parameter",
                name,
                "with the host's ipc namespace it would change the host",
            ));
        }
    }
    host_namespaces(spec)?;
    spec.selinux.as_ref().map_or(Ok(()), selinux::check)?;
    for device in &spec.devices {
        check_device(device)?;
    }
    if !(-1000..=1000).contains(&spec.oom_score_adj) {
        return Err(refused("oom-score-adj", spec.oom_score_adj, "it is between -1000 and 1000"));
    }
    if spec.log.max_files == 0 || spec.log.max_size == 0 {
        return Err(refused(
            "log",
            format!("{:?}", spec.log),
            "at least one file of at least one byte is needed",
        ));
    }
    Ok(())
}

fn host_namespaces(spec: &ContainerSpec) -> Result<(), RuntimeError> {
    if let (true, Some(name)) = (spec.host_namespaces.uts, &spec.hostname) {
        return Err(refused("host name", name, "with the host's uts namespace it would change the host"));
    }
    match spec.shm_size {
        Some(size) if spec.host_namespaces.ipc => {
            Err(refused("shm-size", size, "with the host's ipc namespace /dev/shm is the host's"))
        }
        Some(size) if size < LEAST_SHARED_MEMORY => {
            Err(refused("shm-size", size, format!("at least {LEAST_SHARED_MEMORY} bytes are needed")))
        }
        _ => Ok(()),
    }
}

fn check_device(device: &Device) -> Result<(), RuntimeError> {
    let container = &device.container;
    let parts: Vec<&str> = container.split('/').filter(|part| !part.is_empty()).collect();
    let refuse = |value: &str, why: &str| Err(refused("device", value, why));
    if !device.host.is_absolute() {
        return refuse(&device.host.to_string_lossy(), "its path on the node must be absolute");
    }
    if !container.starts_with('/') || parts.is_empty() || parts.contains(&"..") || container.contains('\0') {
        return refuse(container, "its path in the container must be absolute and without '..'");
    }
    if matches!(parts[0], "proc" | "sys") {
        return refuse(container, "/proc and /sys belong to the runtime; choose another path");
    }
    let letters = &device.permissions;
    let distinct: std::collections::BTreeSet<char> = letters.chars().collect();
    if letters.is_empty() || distinct.len() != letters.len() || !letters.chars().all(|c| "rwm".contains(c)) {
        return refuse(container, "its permissions are some of the letters r, w and m");
    }
    Ok(())
}

fn rootfs(rootfs: &Rootfs) -> Result<(), RuntimeError> {
    let Rootfs::Overlay { lower } = rootfs;
    layers(lower)
}

fn layers(lower: &[std::path::PathBuf]) -> Result<(), RuntimeError> {
    if lower.is_empty() || lower.len() > MOST_LAYERS {
        return Err(refused("layers", lower.len(), format!("between 1 and {MOST_LAYERS} layers are needed")));
    }
    match lower.iter().find(|layer| !layer.is_absolute()) {
        Some(layer) => Err(refused("layer", layer.display(), "the path must be absolute")),
        None => Ok(()),
    }
}

fn program(spec: &ContainerSpec) -> Result<(), RuntimeError> {
    words(&spec.args, &spec.env, &spec.cwd)?;
    variables(spec.secret_env.reveal())
}

/// Checks a program that is to run beside a container's own.
pub(crate) fn exec(spec: &ExecSpec) -> Result<(), RuntimeError> {
    words(&spec.args, &spec.env, spec.cwd.as_deref().unwrap_or_default())?;
    let room = |texts: &[String]| texts.iter().map(|text| text.len() as u64 + 1).sum::<u64>();
    let size = room(&spec.args) + room(&spec.env);
    // Half of it, because quotes and the like are escaped on the way.
    if size > REQUEST_BYTES / 2 {
        return Err(refused(
            "program",
            format!("{size} bytes"),
            "arguments and variables are too long together",
        ));
    }
    if spec.timeout.is_zero() {
        return Err(refused("timeout", "0", "a program needs some time to run"));
    }
    spec.user.as_ref().map_or(Ok(()), user)
}

fn words(arguments: &[String], environment: &[String], directory: &str) -> Result<(), RuntimeError> {
    if arguments.first().is_none_or(String::is_empty) {
        return Err(refused("arguments", format!("{arguments:?}"), "a program is needed"));
    }
    let mut texts = arguments.iter().map(String::as_str).chain([directory]);
    if let Some(bad) = texts.find(|text| text.contains('\0')) {
        return Err(refused("argument", bad, "it contains a NUL byte"));
    }
    variables(environment)?;
    if !directory.is_empty() && !directory.starts_with('/') {
        return Err(refused("working directory", directory, "it must be an absolute path"));
    }
    Ok(())
}

fn variables(entries: &[String]) -> Result<(), RuntimeError> {
    let well_formed = |entry: &&String| entry.find('=').is_some_and(|at| at > 0) && !entry.contains('\0');
    match entries.iter().find(|entry| !well_formed(entry)) {
        // The value may be a secret, so only the name is told.
        Some(bad) => Err(refused(
            "environment variable",
            bad.split('=').next().unwrap_or_default(),
            "it must be NAME=value without NUL bytes",
        )),
        None => Ok(()),
    }
}

fn user(user: &User) -> Result<(), RuntimeError> {
    let names = [Some(&user.user), user.group.as_ref()].into_iter().flatten().chain(&user.additional_groups);
    match names.into_iter().find(|name| name.contains([':', '\n', '\0']) || name.len() > 255) {
        Some(bad) => Err(refused("user or group", bad, "user and group are separate fields, without ':'")),
        None => Ok(()),
    }
}

fn hostname(name: &str) -> Result<(), RuntimeError> {
    let well_formed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if name.is_empty() || name.len() > LONGEST_HOSTNAME || !name.chars().all(well_formed) {
        return Err(refused("host name", name, "use 1 to 64 letters, digits, '-', '.' or '_'"));
    }
    Ok(())
}

fn check_mount(mount: &Mount) -> Result<(), RuntimeError> {
    let target = mount.target();
    let parts: Vec<&str> = target.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if !target.starts_with('/') || target.contains('\0') || parts.contains(&"..") {
        return Err(refused("mount target", target, "it must be an absolute path without '..'"));
    }
    match parts.as_slice() {
        [] => return Err(refused("mount target", target, "the root itself cannot be replaced")),
        ["proc" | "sys", ..] => {
            return Err(refused(
                "mount target",
                target,
                "/proc and /sys belong to the runtime; choose another path",
            ));
        }
        ["dev"] => {
            return Err(refused("mount target", target, "/dev belongs to the runtime; mount below it"));
        }
        _ => {}
    }
    match mount {
        Mount::Bind { options, .. } if options.subpath.starts_with('/') => {
            Err(refused("mount subpath", &options.subpath, "it must be a path below the source"))
        }
        Mount::Bind { options, .. }
            if !options.subpath.is_empty() && options.propagation != Propagation::Private =>
        {
            Err(refused("mount subpath", &options.subpath, "it goes with private propagation only"))
        }
        Mount::Layers { subpath, .. } if subpath.starts_with('/') => {
            Err(refused("mount subpath", subpath, "it must be a path below the root of the layers"))
        }
        Mount::Layers { lower, .. } => layers(lower),
        Mount::Bind { source, .. } if !source.is_absolute() => {
            Err(refused("bind source", source.display(), "it must be an absolute path"))
        }
        Mount::Tmpfs { mode: Some(mode), .. } if *mode > 0o7777 => {
            Err(refused("tmpfs mode", format!("{mode:o}"), "permission bits go up to 7777"))
        }
        _ => Ok(()),
    }
}

fn resources(spec: &ContainerSpec) -> Result<(), RuntimeError> {
    let resources = &spec.resources;
    if let Some(memory) = resources.memory_bytes {
        if memory < LEAST_MEMORY {
            return Err(refused("memory limit", memory, format!("at least {LEAST_MEMORY} bytes are needed")));
        }
        if let Some(total) = resources.memory_swap.filter(|total| *total < memory) {
            return Err(refused(
                "memory and swap limit",
                total,
                "it includes the memory, so it cannot be smaller",
            ));
        }
    } else if let Some(total) = resources.memory_swap {
        return Err(refused("memory and swap limit", total, "it needs a memory limit"));
    }
    if let Some(swappiness) = resources.swappiness.filter(|value| *value > 100) {
        return Err(refused("limits.swappiness", swappiness, "it is between 0 and 100"));
    }
    if let Some(cpuset) = &resources.cpuset
        && (cpuset.is_empty() || !cpuset.bytes().all(|b| b.is_ascii_digit() || matches!(b, b',' | b'-')))
    {
        return Err(refused("limits.cpuset", cpuset, "write numbers and ranges, such as 0-2,7"));
    }
    for (field, value) in [("processor limit", resources.cpu_nano), ("process limit", resources.pids)] {
        if value == Some(0) {
            return Err(refused(field, 0, "leave it out for no limit"));
        }
    }
    Ok(())
}

fn resource_limit(limit: &ResourceLimit) -> Result<(), RuntimeError> {
    if resource_limit_number(&limit.name).is_none() {
        let known: Vec<&str> = RESOURCE_LIMITS.iter().map(|(name, _)| *name).collect();
        return Err(refused("resource limit", &limit.name, format!("known ones are {}", known.join(", "))));
    }
    if limit.soft > limit.hard {
        return Err(refused("resource limit", &limit.name, "the soft limit is above the hard one"));
    }
    Ok(())
}

/// An exact list for the IPC namespace and one prefix for the network namespace; anything else would change the
/// host (CVE-2022-0811).
fn kernel_parameter(name: &str, value: &str, host_network: bool) -> Result<(), RuntimeError> {
    let clean = |text: &str| {
        let part_ok = |part: &str| !part.is_empty() && Path::new(part).components().count() == 1;
        text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
            && text.split('.').all(part_ok)
    };
    let network = name.starts_with("net.");
    if !clean(name) || !(network || IPC_PARAMETERS.contains(&name)) {
        return Err(refused(
            "kernel parameter",
            name,
            "only parameters of the container's own namespaces can be set",
        ));
    }
    if network && host_network {
        return Err(refused("kernel parameter", name, "with the host's network it would change the host"));
    }
    if value.contains(['\n', '\0']) {
        return Err(refused("kernel parameter", name, "its value must be one line"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spec() -> ContainerSpec {
        ContainerSpec::new(vec!["/layer".into()], vec!["true".into()])
    }

    fn bind(target: &str) -> ContainerSpec {
        let mount = Mount::Bind {
            source: "/srv".into(),
            target: target.into(),
            read_only: true,
            recursive: true,
            options: crate::spec::BindOptions::default(),
        };
        ContainerSpec { mounts: vec![mount], ..spec() }
    }

    #[test]
    fn targets() {
        for good in ["/data", "/dev/shm", "/a/./b", "/procfs", "/etc/resolv.conf"] {
            assert!(check(&bind(good)).is_ok(), "{good}");
        }
        for bad in ["", "data", "/", "/./", "/proc", "/proc/sys", "//proc/1", "/sys/fs", "/dev", "/a/../proc"]
        {
            assert!(check(&bind(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn limits() {
        let mut spec = spec();
        assert!(check(&spec).is_ok());
        spec.resources.memory_bytes = Some(1 << 20);
        assert!(check(&spec).is_err());
        spec.resources.memory_bytes = Some(64 << 20);
        spec.resources.memory_swap = Some(32 << 20);
        assert!(check(&spec).is_err());
    }

    #[test]
    fn kernel_parameters() {
        for good in ["net.ipv4.ip_forward", "kernel.shmmax", "net.core.somaxconn"] {
            assert!(kernel_parameter(good, "1", false).is_ok(), "{good}");
        }
        for bad in
            ["kernel.core_pattern", "kernel.shmmax+", "net.ipv4/../..", "net..x", "net.", "vm.swappiness"]
        {
            assert!(kernel_parameter(bad, "1", false).is_err(), "{bad}");
        }
        assert!(kernel_parameter("net.ipv4.ip_forward", "1", true).is_err());
        assert!(kernel_parameter("kernel.shmmax", "1\n2", false).is_err());
    }

    proptest! {
        /// Whatever passes cannot climb out of /proc/sys.
        #[test]
        fn accepted_names_are_harmless(name in "[ -~]{0,40}") {
            if kernel_parameter(&name, "1", false).is_ok() {
                prop_assert!(name.starts_with("net.") || IPC_PARAMETERS.contains(&name.as_str()));
                prop_assert!(!name.contains('/') && !name.contains(".."));
            }
        }
    }
}
