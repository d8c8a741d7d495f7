//! What the runtime is asked for, from what the task says.
//!
//! What this node cannot do is refused here or by the runtime, with the field and its value; nothing is left out silently.

use std::net::IpAddr;

use coracle_agent_runtime::{
    BindOptions, Capabilities, ContainerSpec, Device, HostNamespaces, LogConfig, Mount, Network, PlacedFiles,
    Propagation, ResourceLimit, Resources, Seccomp, SecretVariables, SelinuxLabels, User,
};
use coracle_model::mount::{Mount as MountSpec, MountKind, Propagation as Propagate, Recursive};
use coracle_model::resources::{DEFAULT_PIDS, Limits, Swap};
use coracle_model::security::{AppArmor, Device as DeviceSpec, NamespaceMode, Privileges, Seccomp as Filter};
use coracle_model::service::{ContainerSpec as Wishes, Dns, LogConfig as Logging, NetworkMode};

use crate::adapters::containers::ContainerError;
use crate::launch::{Launch, Place};

/// What a container without network of its own is told of its own name, as Debian has it.
const OWN_ADDRESS: &str = "127.0.1.1";
const LOCALHOST: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";

fn refused(field: &str, value: impl std::fmt::Display, why: &str) -> ContainerError {
    ContainerError(format!("{field}: {value}: {why}"))
}

/// Files of the node that a container may be shown.
pub(super) struct NodeFiles {
    pub(super) hosts: String,
    pub(super) resolv_conf: String,
}

impl NodeFiles {
    /// A node without them has empty ones.
    pub(super) fn read() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        Self { hosts: read("/etc/hosts"), resolv_conf: read("/etc/resolv.conf") }
    }
}

pub(super) fn specification(launch: &Launch, node: &NodeFiles) -> Result<ContainerSpec, ContainerError> {
    let wishes = &launch.container;
    let privileges = &wishes.privileges;
    let host = |mode| mode == NamespaceMode::Host;
    let mut spec = ContainerSpec::new(launch.layers.clone(), launch.arguments.clone());
    spec.env = launch.environment.clone();
    let secrets = launch.variables.iter().map(|variable| variable.reveal().to_owned());
    spec.secret_env = SecretVariables::new(secrets.collect());
    spec.cwd = launch.working_directory.clone();
    spec.user = user(&launch.user, &wishes.groups);
    spec.hostname = (!host(wishes.uts)).then(|| launch.hostname.clone());
    spec.read_only_rootfs = launch.read_only;
    spec.mounts = launch.mounts.iter().map(|mount| self::mount(mount, launch)).collect::<Result<_, _>>()?;
    spec.network = match launch.network {
        NetworkMode::None => Network::None,
        NetworkMode::Host => Network::Host,
    };
    spec.resources = resources(&launch.limits)?;
    spec.labels = launch.labels.clone();
    spec.log = log(&wishes.log)?;
    spec.log.directory = Some(launch.log_directory.clone());
    spec.init = wishes.init;
    spec.terminal = wishes.tty;
    spec.host_namespaces =
        HostNamespaces { pid: host(wishes.pid), ipc: host(wishes.ipc), uts: host(wishes.uts) };
    spec.shm_size = (wishes.shm_size > 0).then_some(wishes.shm_size);
    spec.oom_score_adj = wishes.oom_score_adj;
    spec.sysctls = wishes.sysctls.clone();
    spec.resource_limits = wishes
        .ulimits
        .iter()
        .map(|(name, limit)| ResourceLimit { name: name.clone(), soft: limit.soft, hard: limit.hard })
        .collect();
    spec.files = files(launch, node);
    spec.selinux = launch
        .selinux
        .as_ref()
        .map(|labels| SelinuxLabels { process: labels.process.clone(), mount: labels.mount.clone() });
    privilege(&mut spec, privileges)?;
    devices(&mut spec, &wishes.devices);
    Ok(spec)
}

fn user(text: &str, groups: &[String]) -> User {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let group = group.filter(|group| !group.is_empty()).map(str::to_owned);
    User { user: user.to_owned(), group, additional_groups: groups.to_vec() }
}

fn privilege(spec: &mut ContainerSpec, privileges: &Privileges) -> Result<(), ContainerError> {
    spec.privileged = privileges.privileged;
    spec.capabilities = capabilities(privileges)?;
    spec.no_new_privileges = !(privileges.new_privileges || privileges.privileged);
    spec.seccomp = match &privileges.seccomp {
        Filter::Default if privileges.privileged => Seccomp::Unconfined,
        Filter::Default => Seccomp::Default,
        Filter::Unconfined => Seccomp::Unconfined,
        Filter::Custom(profile) => Seccomp::Custom(profile.clone()),
    };
    spec.apparmor = match &privileges.apparmor {
        AppArmor::Default => None,
        AppArmor::Unconfined => Some("unconfined".into()),
        AppArmor::Profile(profile) => Some(profile.clone()),
    };
    Ok(())
}

/// Docker's rules: what is named wins over `ALL`, and `ALL` is what the daemon has itself.
fn capabilities(privileges: &Privileges) -> Result<Capabilities, ContainerError> {
    let names = |list: &std::collections::BTreeSet<String>| -> Vec<String> {
        list.iter().map(|name| name.to_ascii_uppercase()).filter(|name| !is_all(name)).collect()
    };
    let (added, dropped) = (names(&privileges.capabilities_added), names(&privileges.capabilities_dropped));
    let all = |list: &std::collections::BTreeSet<String>| list.iter().any(|name| is_all(name));
    let start = if privileges.privileged || all(&privileges.capabilities_added) {
        Capabilities::available()
    } else if all(&privileges.capabilities_dropped) {
        Capabilities::none()
    } else {
        Capabilities::container_default()
    };
    start
        .without(dropped.iter().map(String::as_str))
        .map_err(|error| ContainerError(format!("cap-drop: {error}")))?
        .with(added.iter().map(String::as_str))
        .map_err(|error| ContainerError(format!("cap-add: {error}")))
}

fn is_all(name: &str) -> bool {
    name.eq_ignore_ascii_case("ALL") || name.eq_ignore_ascii_case("CAP_ALL")
}

fn devices(spec: &mut ContainerSpec, devices: &[DeviceSpec]) {
    for device in devices {
        match device {
            DeviceSpec::Path { host, container, permissions } => spec.devices.push(Device {
                host: host.into(),
                container: container.clone(),
                permissions: permissions.clone(),
            }),
            DeviceSpec::Cdi(name) => spec.cdi_devices.push(name.clone()),
        }
    }
}

fn mount(mount: &MountSpec, launch: &Launch) -> Result<Mount, ContainerError> {
    let target = mount.target.clone();
    match &mount.kind {
        MountKind::Bind { source, propagation, recursive, create_source } => {
            let recursive_bind = *recursive != Recursive::Disabled;
            let propagation = match propagation {
                Propagate::RecursivePrivate | Propagate::Private => Propagation::Private,
                Propagate::Shared | Propagate::Slave if recursive_bind => {
                    return Err(refused(
                        "bind-propagation",
                        propagation.as_str(),
                        "mounts below the source would propagate too: use the recursive kind, or bind-recursive=disabled",
                    ));
                }
                Propagate::Shared | Propagate::RecursiveShared => Propagation::Shared,
                Propagate::Slave | Propagate::RecursiveSlave => Propagation::Slave,
            };
            Ok(Mount::Bind {
                source: source.into(),
                target,
                read_only: mount.read_only,
                recursive: recursive_bind,
                options: BindOptions {
                    propagation,
                    // The kernels that we need can make all of them read-only, so the two other words mean the same.
                    writable_below: *recursive == Recursive::Writable,
                    create_source: *create_source,
                    ..BindOptions::default()
                },
            })
        }
        MountKind::Tmpfs { size, mode } => {
            let (size, mode, read_only) = ((*size > 0).then_some(*size), Some(*mode), mount.read_only);
            Ok(Mount::Tmpfs { target, size, mode, read_only })
        }
        MountKind::Volume { subpath, .. } | MountKind::Image { subpath, .. } => {
            let subpath = subpath.clone();
            match launch.places.get(&mount.target).cloned() {
                Some(Place::Folder(source)) => Ok(Mount::Bind {
                    source,
                    target,
                    read_only: mount.read_only,
                    recursive: false,
                    options: BindOptions { subpath, ..BindOptions::default() },
                }),
                Some(Place::Layers(lower)) => Ok(Mount::Layers { lower, target, subpath }),
                None => Err(refused(
                    "mount",
                    format!("type {} at {target}", mount.type_word()),
                    "nothing is there",
                )),
            }
        }
    }
}

fn resources(limits: &Limits) -> Result<Resources, ContainerError> {
    let some = |value: u64| (value > 0).then_some(value);
    let memory = some(limits.memory.0);
    let swap = match (limits.swap, memory) {
        (Swap::Default, _) => None,
        (Swap::Bytes(swap), Some(memory)) => Some(memory.saturating_add(swap).min(u64::MAX - 1)),
        (Swap::Unlimited, Some(_)) => Some(u64::MAX),
        (Swap::Bytes(swap), None) => return Err(refused("limits.swap", swap, "it needs a memory limit")),
        (Swap::Unlimited, None) => {
            return Err(refused("limits.swap", "unlimited", "it needs a memory limit"));
        }
    };
    Ok(Resources {
        cpu_nano: some(limits.cpu.0),
        memory_bytes: memory,
        memory_swap: swap,
        swappiness: limits.swappiness,
        cpuset: Some(limits.cpuset.clone()).filter(|cpuset| !cpuset.is_empty()),
        pids: some(limits.pids.unwrap_or(DEFAULT_PIDS)),
    })
}

fn log(log: &Logging) -> Result<LogConfig, ContainerError> {
    let mut config = LogConfig::default();
    match log.driver.as_str() {
        "" | "local" => {}
        "none" => config.discard = true,
        other => return Err(refused("log-driver", other, "use local or none")),
    }
    for (name, value) in &log.options {
        match name.as_str() {
            _ if config.discard => {
                return Err(refused("log-opt", name, "the log driver none takes no options"));
            }
            "max-size" => {
                config.max_size = bytes(value).ok_or_else(|| {
                    refused("log-opt max-size", value, "write bytes, or a number with k, m or g")
                })?;
            }
            "max-file" => {
                let files = value.parse().ok().filter(|files| (1..=1000).contains(files));
                config.max_files = files
                    .ok_or_else(|| refused("log-opt max-file", value, "write a number from 1 to 1000"))?;
            }
            other => return Err(refused("log-opt", other, "use max-size or max-file")),
        }
    }
    Ok(config)
}

/// A number above zero with `b`, `k`, `m` or `g`, all powers of 1024, as Docker has them.
fn bytes(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let end = lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len());
    let (digits, unit) = lower.split_at(end);
    let factor = match unit {
        "" | "b" => 1_u64,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor).filter(|bytes| *bytes > 0)
}

fn files(launch: &Launch, node: &NodeFiles) -> PlacedFiles {
    let wishes = &launch.container;
    let host_network = launch.network == NetworkMode::Host;
    PlacedFiles {
        hosts: (!host_network || !wishes.hosts.is_empty()).then(|| hosts(launch, node)),
        resolv_conf: (wishes.dns != Dns::default()).then(|| resolv_conf(&wishes.dns, &node.resolv_conf)),
    }
}

/// With the node's network its own file is the beginning.
fn hosts(launch: &Launch, node: &NodeFiles) -> String {
    let wishes: &Wishes = &launch.container;
    let mut text = match launch.network {
        NetworkMode::Host if node.hosts.is_empty() => LOCALHOST.to_owned(),
        NetworkMode::Host => format!("{}\n", node.hosts.trim_end_matches('\n')),
        NetworkMode::None => LOCALHOST.to_owned(),
    };
    if launch.network == NetworkMode::None && wishes.uts == NamespaceMode::Private {
        text.push_str(&format!("{OWN_ADDRESS}\t{}\n", launch.hostname));
    }
    for line in &wishes.hosts {
        let (address, names) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        text.push_str(&format!("{address}\t{}\n", names.trim()));
    }
    text
}

/// resolv.conf(5); what the service leaves empty is the node's.
fn resolv_conf(dns: &Dns, node: &str) -> String {
    let of_node = |keyword: &str| -> Vec<&str> {
        let lines = node.lines().filter_map(|line| line.trim().strip_prefix(keyword));
        lines.filter(|rest| rest.starts_with(char::is_whitespace)).map(str::trim).collect()
    };
    let mut text = String::new();
    let servers: Vec<&str> = match dns.servers.is_empty() {
        // Only addresses: anything else there is no business of the container.
        true => of_node("nameserver").into_iter().filter(|server| server.parse::<IpAddr>().is_ok()).collect(),
        false => dns.servers.iter().map(String::as_str).collect(),
    };
    for server in servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    for (keyword, own) in [("search", &dns.search), ("options", &dns.options)] {
        let words = match own.is_empty() {
            true => of_node(keyword).last().copied().unwrap_or_default().to_owned(),
            false => own.join(" "),
        };
        // A single dot is Docker's word for none.
        if !words.is_empty() && words != "." {
            text.push_str(&format!("{keyword} {words}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests;
