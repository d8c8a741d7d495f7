//! What a service may ask for only where the cluster's policy allows privileged containers.

use crate::security::{AppArmor, Device, NamespaceMode, Seccomp};
use crate::service::ServiceSpec;

use super::{Invalid, invalid};

/// Types of the policies of distributions that confine nothing. A node's own policy may have more of them, and has the last
/// word on which types the daemon may give.
const UNCONFINED_TYPES: [&str; 6] =
    ["spc_t", "unconfined_t", "unconfined_service_t", "container_runtime_t", "init_t", "kernel_t"];

/// Refuses what gives a container power over its node, unless `allowed`.
///
/// # Errors
/// The first such field.
pub fn policy(spec: &ServiceSpec, allowed: bool) -> Result<(), Invalid> {
    match first(spec) {
        Some((field, value)) if !allowed => invalid(
            field,
            value,
            "the cluster does not allow privileged containers; allow them with `coracle swarm update --allow-privileged`",
        ),
        _ => Ok(()),
    }
}

/// Devices by their CDI names are not among them: who may be given them is decided by the node's own CDI files.
fn first(spec: &ServiceSpec) -> Option<(&'static str, String)> {
    let container = &spec.task.container;
    let privileges = &container.privileges;
    let found = |field, value: &str| Some((field, value.to_owned()));
    if privileges.privileged {
        return found("privileged", "true");
    }
    if let Some(Device::Path { host, .. }) =
        container.devices.iter().find(|device| matches!(device, Device::Path { .. }))
    {
        return found("device", host);
    }
    for (field, mode) in [("pid", container.pid), ("ipc", container.ipc), ("uts", container.uts)] {
        if mode == NamespaceMode::Host {
            return found(field, "host");
        }
    }
    if privileges.seccomp == Seccomp::Unconfined {
        return found("security-opt", "seccomp=unconfined");
    }
    if privileges.apparmor == AppArmor::Unconfined {
        return found("security-opt", "apparmor=unconfined");
    }
    if privileges.selinux.iter().any(|option| option == "disable") {
        return found("security-opt", "label=disable");
    }
    let is_unconfined =
        |option: &&String| option.strip_prefix("type:").is_some_and(|kind| UNCONFINED_TYPES.contains(&kind));
    if let Some(option) = privileges.selinux.iter().find(is_unconfined) {
        return found("security-opt", &format!("label={option}"));
    }
    let added = &privileges.capabilities_added;
    [
        "ALL",
        "CAP_SYS_ADMIN",
        "CAP_SYS_MODULE",
        "CAP_SYS_RAWIO",
        "CAP_SYS_PTRACE",
        "CAP_BPF",
        "CAP_DAC_READ_SEARCH",
    ]
    .into_iter()
    .find(|name| added.contains(*name))
    .and_then(|name| found("cap-add", name))
}
