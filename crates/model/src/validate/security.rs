//! Privileges, devices, limits of processes, kernel settings and namespaces.

use std::collections::BTreeSet;

use crate::security::{AppArmor, Device, NamespaceMode, Privileges, Seccomp};
use crate::service::{ContainerSpec, NetworkMode, TaskSpec};

use super::{Invalid, absolute, invalid, list, text};

/// Capabilities of Linux (capabilities(7)).
const CAPABILITIES: [&str; 41] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "SYSLOG",
    "WAKE_ALARM",
];
/// Limits of processes (getrlimit(2)). The runtime has the same list, which a test of the agent compares.
pub const ULIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];
/// Settings of the namespace of shared memory and queues. The runtime has the same list, which a test of the agent compares.
pub const IPC_SYSCTLS: [&str; 13] = [
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
/// Largest seccomp profile in bytes.
const PROFILE_LIMIT: usize = 256 * 1024;

/// Longest part of an SELinux label, in bytes, with its key.
const LABEL_LIMIT: usize = 128;

pub(super) fn check(task: &TaskSpec) -> Result<(), Invalid> {
    let container = &task.container;
    privileges(&container.privileges)?;
    list("device", container.devices.len())?;
    devices(&container.devices)?;
    ulimits(container)?;
    sysctls(task)?;
    namespaces(container)
}

fn privileges(privileges: &Privileges) -> Result<(), Invalid> {
    for (field, names) in
        [("cap-add", &privileges.capabilities_added), ("cap-drop", &privileges.capabilities_dropped)]
    {
        for name in names {
            let known =
                name == "ALL" || name.strip_prefix("CAP_").is_some_and(|bare| CAPABILITIES.contains(&bare));
            if !known {
                return invalid(field, name, "unknown capability; use a name such as NET_ADMIN, or ALL");
            }
        }
    }
    if let Some(name) = privileges.capabilities_added.intersection(&privileges.capabilities_dropped).next() {
        return invalid("cap-add", name, "it is dropped, too; give it once");
    }
    if let Seccomp::Custom(profile) = &privileges.seccomp {
        if profile.len() > PROFILE_LIMIT {
            return invalid(
                "security-opt",
                "seccomp",
                format!("the profile is longer than {PROFILE_LIMIT} bytes"),
            );
        }
        if !profile.trim_start().starts_with('{') || !profile.contains("\"defaultAction\"") {
            return invalid(
                "security-opt",
                "seccomp",
                "the profile is no JSON object with a \"defaultAction\"",
            );
        }
    }
    if let AppArmor::Profile(name) = &privileges.apparmor
        && (name.is_empty() || name.len() > 256 || name.contains(|c: char| c.is_whitespace() || c == '\0'))
    {
        return invalid(
            "security-opt",
            format!("apparmor={name}"),
            "use the name of a profile, without white space",
        );
    }
    selinux(&privileges.selinux)?;
    let confined = matches!(privileges.seccomp, Seccomp::Custom(_))
        || matches!(privileges.apparmor, AppArmor::Profile(_))
        || !privileges.capabilities_dropped.is_empty();
    if privileges.privileged && confined {
        return invalid(
            "privileged",
            "true",
            "it cannot be combined with cap-drop or with profiles for seccomp and AppArmor: it switches them off",
        );
    }
    Ok(())
}

fn selinux(options: &[String]) -> Result<(), Invalid> {
    let mut keys = BTreeSet::new();
    for option in options {
        let key = option.split_once(':').map_or(option.as_str(), |(key, _)| key);
        let value = option.split_once(':').map(|(_, value)| value);
        let good = match (key, value) {
            ("disable", None) => true,
            ("user" | "role" | "type" | "filetype" | "level", Some(value)) => !value.is_empty(),
            _ => false,
        };
        if !good {
            let problem = "use label=disable, or label=KEY:VALUE with user, role, type, filetype or level";
            return invalid("security-opt", format!("label={option}"), problem);
        }
        if !value.unwrap_or_default().chars().all(|c| of_label(key, c)) {
            let problem = match key {
                "level" => "a level such as s0:c1,c2 has letters, digits and _ . : , - only",
                _ => "it has letters, digits and _ . - only",
            };
            return invalid("security-opt", format!("label={option}"), problem);
        }
        if option.len() > LABEL_LIMIT {
            let problem = format!("it is longer than {LABEL_LIMIT} bytes");
            return invalid("security-opt", format!("label={option}"), problem);
        }
        if !keys.insert(key) {
            return invalid("security-opt", format!("label={option}"), format!("{key} is given twice"));
        }
    }
    Ok(())
}

/// Whether a part of an SELinux label may have this character. A part without colons cannot become several.
fn of_label(key: &str, c: char) -> bool {
    c.is_ascii_alphanumeric() || "_.-".contains(c) || (key == "level" && ":,".contains(c))
}

fn devices(devices: &[Device]) -> Result<(), Invalid> {
    let mut targets = BTreeSet::new();
    for device in devices {
        match device {
            Device::Path { host, container, permissions } => {
                absolute("device", host)?;
                absolute("device", container)?;
                if ["/proc", "/sys"]
                    .iter()
                    .any(|root| container == root || container.starts_with(&format!("{root}/")))
                {
                    return invalid("device", container, "a device cannot be below /proc or /sys");
                }
                let letters: BTreeSet<char> = permissions.chars().collect();
                if letters.is_empty()
                    || letters.len() != permissions.len()
                    || !letters.iter().all(|letter| "rwm".contains(*letter))
                {
                    return invalid("device", permissions, "permissions are any of r, w and m, each once");
                }
                if !targets.insert(container) {
                    return invalid("device", container, "two devices have this path; each needs its own");
                }
            }
            Device::Cdi(name) => cdi(name)?,
        }
    }
    Ok(())
}

fn cdi(name: &str) -> Result<(), Invalid> {
    let part = |text: &str, more: &str| {
        text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    let good = name.split_once('=').is_some_and(|(kind, device)| {
        kind.split_once('/').is_some_and(|(vendor, class)| part(vendor, "_.-") && part(class, "_-"))
            && part(device, "_.:-")
    });
    if good { Ok(()) } else { invalid("device", name, "use a CDI name such as vendor.com/class=name") }
}

fn ulimits(container: &ContainerSpec) -> Result<(), Invalid> {
    for (name, limit) in &container.ulimits {
        if !ULIMITS.contains(&name.as_str()) {
            return invalid("ulimit", name, format!("unknown limit; use one of {}", ULIMITS.join(", ")));
        }
        if limit.soft > limit.hard {
            return invalid("ulimit", name, "the soft limit is above the hard one");
        }
    }
    Ok(())
}

fn sysctls(task: &TaskSpec) -> Result<(), Invalid> {
    list("sysctl", task.container.sysctls.len())?;
    for (name, value) in &task.container.sysctls {
        text("sysctl", value)?;
        let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "._/-".contains(c))
            && name.split(['.', '/']).all(|part| !part.is_empty());
        let of_network = name.starts_with("net.");
        if !plain || !(of_network || IPC_SYSCTLS.contains(&name.as_str())) {
            return invalid("sysctl", name, "only settings of the container's own namespaces can be set");
        }
        if value.contains(['\n', '\r']) {
            return invalid("sysctl", format!("{name}={value}"), "the value is one line");
        }
        if of_network && task.network == NetworkMode::Host {
            return invalid(
                "sysctl",
                name,
                "the network is the node's own; leave it out, or use --network none",
            );
        }
        if !of_network && task.container.ipc == NamespaceMode::Host {
            return invalid("sysctl", name, "with --ipc host it is the node's own; leave it out");
        }
    }
    Ok(())
}

fn namespaces(container: &ContainerSpec) -> Result<(), Invalid> {
    if container.uts == NamespaceMode::Host && !container.hostname.is_empty() {
        return invalid(
            "hostname",
            &container.hostname,
            "with --uts host the node's host name is seen; leave it out",
        );
    }
    if container.shm_size != 0 && container.shm_size < 4096 {
        return invalid("shm-size", container.shm_size, "the minimum is 4096 bytes; 0 is the default");
    }
    if container.shm_size != 0 && container.ipc == NamespaceMode::Host {
        return invalid(
            "shm-size",
            container.shm_size,
            "with --ipc host the node's /dev/shm is seen; leave it out",
        );
    }
    Ok(())
}
