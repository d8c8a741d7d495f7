//! SELinux labels of the file systems that are made for a container.
//!
//! Those of the kernel's own objects (proc, sysfs, cgroup) are labelled by the policy alone, and what is bound from the host
//! keeps its labels.

use super::own;
use crate::spec::ContainerSpec;
use coracle_runtime_protocol::{MountAttributes, Step};

/// Options of mount(2) with the container's label. A level has commas, so the kernel wants it quoted here; the calls that take
/// options one by one want it bare.
pub(super) fn labelled(spec: &ContainerSpec, options: String) -> String {
    match &spec.selinux {
        Some(labels) => format!("{options},context=\"{}\"", labels.mount),
        None => options,
    }
}

/// The option that labels everything in a file system.
pub(super) fn context(spec: &ContainerSpec) -> Option<(&'static str, &str)> {
    spec.selinux.as_ref().map(|labels| ("context", labels.mount.as_str()))
}

/// As [`own`], with the container's label.
pub(super) fn own_labelled(
    spec: &ContainerSpec,
    filesystem: &str,
    target: &str,
    attributes: MountAttributes,
    options: &[(&str, &str)],
) -> Step {
    let options: Vec<_> = options.iter().copied().chain(context(spec)).collect();
    own(filesystem, target, attributes, &options)
}

/// The file system of queues comes with the namespace and is labelled by then. That of the host keeps its label.
pub(super) fn of_queues(spec: &ContainerSpec) -> Option<Step> {
    let labels = spec.selinux.as_ref().filter(|_| !spec.host_namespaces.ipc)?;
    Some(Step::LabelRoot { path: "/dev/mqueue".into(), label: labels.mount.clone() })
}
