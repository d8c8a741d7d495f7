//! From a specification to the steps of init. Pure: the same input gives the same plan, which reads like a trace of
//! what will be done (see the snapshot in the tests).

mod defaults;
mod hook;
mod label;

use crate::cdi;
use crate::cgroup::{CgroupVersion, Membership};
use crate::device::Found;
use crate::directory::ContainerDirectory;
use crate::id::ContainerId;
use crate::spec::{ContainerSpec, Mount, Network, Propagation, Rootfs};
use crate::validate::resource_limit_number;
use coracle_runtime_protocol as protocol;
use coracle_runtime_protocol::{
    Credentials, DeviceNode, HostDevice, LogPlan, MountAttributes, Plan, Program, ResourceLimit, Step,
};
pub(crate) use hook::OCI_VERSION;
use label::{context, labelled, own_labelled};
use std::path::PathBuf;
use std::time::Duration;

/// Everything the plan depends on.
#[derive(Debug)]
pub(crate) struct Input<'a> {
    pub(crate) id: &'a ContainerId,
    pub(crate) spec: &'a ContainerSpec,
    pub(crate) directory: &'a ContainerDirectory,
    pub(crate) membership: &'a Membership,
    pub(crate) log_directory: PathBuf,
    /// Devices of the host.
    pub(crate) devices: &'a [Found],
    /// Programs of the host that CDI devices need run.
    pub(crate) hooks: &'a [cdi::Hook],
    /// The compiled filter of system calls, as the supervisor is given it.
    pub(crate) seccomp: Option<String>,
    /// Paths to mask that depend on the host's processors.
    pub(crate) host_masks: &'a [String],
    pub(crate) start_at_once: bool,
    /// After which the container is given up.
    pub(crate) setup_timeout: Duration,
}

const QUIET: MountAttributes =
    MountAttributes { read_only: false, no_set_user_id: true, no_devices: true, no_execute: true };
const QUIET_READ_ONLY: MountAttributes = MountAttributes { read_only: true, ..QUIET };

/// The plan for one container.
pub(crate) fn build(input: &Input<'_>) -> Plan {
    let spec = input.spec;
    Plan {
        container: input.id.to_string(),
        state_directory: input.directory.state.clone(),
        run_directory: input.directory.run.clone(),
        start_at_once: input.start_at_once,
        namespaces: namespaces(spec),
        cgroup_directory: input.membership.directory.clone(),
        supervisor_cgroups: input.membership.supervisor.clone(),
        out_of_memory: input.membership.out_of_memory.clone(),
        log: LogPlan {
            directory: input.log_directory.clone(),
            max_size: spec.log.max_size,
            max_files: spec.log.max_files,
            discard: spec.log.discard,
        },
        steps: steps(input),
        program: Program { arguments: spec.args.clone(), environment: environment(input), reaper: spec.init },
        terminal: spec.terminal,
        hooks_milliseconds: hook::milliseconds(input.setup_timeout),
    }
}

/// The cgroup namespace is missing here: its root is what its maker is a member of, so init joins first.
fn namespaces(spec: &ContainerSpec) -> u64 {
    let host = spec.host_namespaces;
    let mut flags = libc::CLONE_NEWNS;
    for (own, flag) in [
        (!host.pid, libc::CLONE_NEWPID),
        (!host.uts, libc::CLONE_NEWUTS),
        (!host.ipc, libc::CLONE_NEWIPC),
        (spec.network == Network::None, libc::CLONE_NEWNET),
    ] {
        if own {
            flags |= flag;
        }
    }
    u64::from(flags.cast_unsigned())
}

fn hostname(input: &Input<'_>) -> String {
    input.spec.hostname.clone().unwrap_or_else(|| input.id.as_str().chars().take(12).collect())
}

fn environment(input: &Input<'_>) -> Vec<String> {
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let secrets = input.spec.secret_env.reveal();
    let mut environment = input.spec.env.clone();
    environment.retain(|entry| secrets.iter().all(|secret| name(secret) != name(entry)));
    environment.extend(secrets.iter().cloned());
    let path = ("PATH", defaults::PATH.to_owned());
    let hostname = (!input.spec.host_namespaces.uts).then(|| ("HOSTNAME", hostname(input)));
    for (name, value) in [path].into_iter().chain(hostname) {
        if !environment.iter().any(|entry| entry.split('=').next() == Some(name)) {
            environment.push(format!("{name}={value}"));
        }
    }
    environment
}

/// The order is the meaning. Memberships come before the namespaces that hide them; kernel file systems before
/// anything that a user may place; hooks when all of that is there, and masks after what those may mount; privileges go last.
fn steps(input: &Input<'_>) -> Vec<Step> {
    let mut steps = Vec::with_capacity(96);
    isolation(input, &mut steps);
    root(input, &mut steps);
    layers(input, &mut steps);
    kernel_filesystems(input, &mut steps);
    placed_files(input, &mut steps);
    user_mounts(input, &mut steps);
    steps.extend(hook::steps(input));
    masks(input, &mut steps);
    finish(input, &mut steps);
    steps
}

fn isolation(input: &Input<'_>, steps: &mut Vec<Step>) {
    // Here the host's /proc is still in place.
    steps.push(match input.spec.oom_score_adj {
        0 => Step::OrdinaryOutOfMemoryScore,
        score => Step::OutOfMemoryScore(score),
    });
    steps.extend(input.membership.join.iter().cloned().map(Step::JoinCgroup));
    steps.push(Step::NewCgroupNamespace);
    match &input.spec.network {
        Network::None => steps.push(Step::LoopbackUp),
        Network::Path(path) => steps.push(Step::EnterNetwork(path.clone())),
        Network::Host => {}
    }
    if !input.spec.host_namespaces.uts {
        steps.push(Step::HostName(hostname(input)));
    }
    for mount in &input.spec.mounts {
        host_tree(mount, steps);
    }
    steps.push(Step::PrivatePropagation);
}

/// What has to be done to a bind's source while our mounts are still the host's.
fn host_tree(mount: &Mount, steps: &mut Vec<Step>) {
    let Mount::Bind { source, recursive, options, .. } = mount else { return };
    if options.create_source {
        steps.push(Step::HostDirectory(source.clone()));
    }
    if options.propagation != Propagation::Private {
        let shared = options.propagation == Propagation::Shared;
        steps.push(Step::TakeTree { source: source.clone(), recursive: *recursive, shared });
    }
}

fn root(input: &Input<'_>, steps: &mut Vec<Step>) {
    let spec = input.spec;
    let Rootfs::Overlay { lower } = &spec.rootfs;
    let layers: Vec<String> = (0..lower.len()).map(|index| format!("l/{index}")).collect();
    steps.push(Step::MountOverlay {
        directory: input.directory.state.clone(),
        options: labelled(spec, format!("lowerdir={},upperdir=upper,workdir=work", layers.join(":"))),
        target: "rootfs".into(),
    });
    let user = &spec.user;
    steps.push(Step::ResolveUser {
        user: user.user.clone(),
        group: user.group.clone(),
        additional_groups: user.additional_groups.clone(),
    });
}

/// A file system of the runtime's own, whose target the image may not redirect.
fn own(filesystem: &str, target: &str, attributes: MountAttributes, options: &[(&str, &str)]) -> Step {
    let value = |value: &str| (!value.is_empty()).then(|| value.to_owned());
    Step::MountFilesystem {
        filesystem: filesystem.into(),
        options: options.iter().map(|(key, text)| ((*key).to_owned(), value(text))).collect(),
        attributes,
        target: target.into(),
        plain_directory: true,
    }
}

fn kernel_filesystems(input: &Input<'_>, steps: &mut Vec<Step>) {
    steps.push(own("proc", "/proc", QUIET, &[]));
    let parameters = kernel_parameters(input.spec);
    steps.extend(parameters.into_iter().map(|(name, value)| Step::KernelParameter { name, value }));
    let dev = MountAttributes { no_devices: false, ..QUIET };
    let spec = input.spec;
    steps.push(own_labelled(spec, "tmpfs", "/dev", dev, &[("mode", "755"), ("size", "65536k")]));
    for &(name, major, minor) in defaults::DEVICES {
        steps.push(Step::Device(DeviceNode { name: name.into(), major, minor }));
    }
    let terminals = [("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")];
    let terminal = MountAttributes { no_devices: false, ..QUIET };
    steps.push(own_labelled(spec, "devpts", "/dev/pts", terminal, &terminals));
    steps.push(shared_memory(spec));
    steps.push(own("mqueue", "/dev/mqueue", QUIET, &[]));
    steps.extend(label::of_queues(spec));
    for &(path, target) in defaults::LINKS {
        steps.push(Step::SymbolicLink { path: path.into(), target: target.into() });
    }
    let quiet = if input.spec.privileged { QUIET } else { QUIET_READ_ONLY };
    steps.push(own("sysfs", "/sys", quiet, &[]));
    cgroup_filesystems(input, quiet, steps);
    steps.extend(input.devices.iter().map(|found| {
        Step::HostDevice(HostDevice {
            path: found.path.clone(),
            block: found.block,
            major: found.major,
            minor: found.minor,
            mode: found.mode,
            user: found.user,
            group: found.group,
        })
    }));
}

fn shared_memory(spec: &ContainerSpec) -> Step {
    const PLACE: &str = "/dev/shm";
    if spec.host_namespaces.ipc {
        return Step::Bind {
            source: PLACE.into(),
            target: PLACE.into(),
            recursive: false,
            attributes: QUIET,
            optional: false,
            propagation: protocol::Propagation::Private,
            writable_below: false,
            subpath: String::new(),
        };
    }
    let size = spec.shm_size.map_or_else(|| defaults::SHARED_MEMORY.to_owned(), |size| size.to_string());
    own_labelled(spec, "tmpfs", PLACE, QUIET, &[("mode", "1777"), ("size", &size)])
}

/// The container's own user may listen on low ports and ping: the network is its own. Given values win.
fn kernel_parameters(spec: &ContainerSpec) -> Vec<(String, String)> {
    let mut parameters = spec.sysctls.clone();
    if spec.network != Network::Host {
        for &(name, value) in defaults::NETWORK_PARAMETERS {
            parameters.entry(name.into()).or_insert_with(|| value.into());
        }
    }
    parameters.into_iter().collect()
}

fn cgroup_filesystems(input: &Input<'_>, attributes: MountAttributes, steps: &mut Vec<Step>) {
    const ROOT: &str = "/sys/fs/cgroup";
    let membership = input.membership;
    if membership.version == CgroupVersion::V2 {
        steps.push(own("cgroup2", ROOT, attributes, &[]));
        return;
    }
    steps.push(own_labelled(input.spec, "tmpfs", ROOT, QUIET, &[("mode", "755"), ("size", "1m")]));
    for controllers in &membership.hierarchies {
        let name = controllers.join(",");
        let options: Vec<(&str, &str)> =
            controllers.iter().map(|controller| (controller.as_str(), "")).collect();
        steps.push(own("cgroup", &format!("{ROOT}/{name}"), attributes, &options));
        if controllers.len() > 1 {
            for controller in controllers {
                steps.push(Step::SymbolicLink { path: format!("{ROOT}/{controller}"), target: name.clone() });
            }
        }
    }
    steps.push(Step::SealMount(ROOT.into()));
}

/// Own files, else the host's with the host's network, else what the image has; as read-only as the root that they are placed on.
fn placed_files(input: &Input<'_>, steps: &mut Vec<Step>) {
    let spec = input.spec;
    let host = spec.network == Network::Host;
    let files = [
        ("hostname", spec.hostname.is_some(), spec.host_namespaces.uts),
        ("hosts", spec.files.hosts.is_some() || !host, host),
        ("resolv.conf", spec.files.resolv_conf.is_some(), host),
    ];
    for (name, own, host) in files {
        let (source, optional) = match (own, host) {
            (true, _) => (input.directory.placed(name), false),
            (false, true) => (PathBuf::from("/etc").join(name), true),
            (false, false) => continue,
        };
        steps.push(Step::Bind {
            source,
            target: format!("/etc/{name}"),
            recursive: false,
            attributes: MountAttributes {
                read_only: optional || spec.read_only_rootfs,
                no_set_user_id: true,
                no_devices: true,
                no_execute: false,
            },
            optional,
            propagation: protocol::Propagation::Private,
            writable_below: false,
            subpath: String::new(),
        });
    }
}

/// Before anything of the host is out of sight, and before user mounts, which are parts of them.
fn layers(input: &Input<'_>, steps: &mut Vec<Step>) {
    for (index, mount) in input.spec.mounts.iter().enumerate() {
        let Mount::Layers { lower, .. } = mount else { continue };
        // The last one is empty: with only one the kernel would refuse the mount.
        let names: Vec<String> = (0..=lower.len()).map(|layer| format!("m/{index}/{layer}")).collect();
        steps.push(Step::MountLayers {
            directory: input.directory.state.clone(),
            options: labelled(input.spec, format!("lowerdir={}", names.join(":"))),
            target: format!("m/{index}/mount").into(),
        });
    }
}

/// Parents before children; otherwise as given.
fn user_mounts(input: &Input<'_>, steps: &mut Vec<Step>) {
    let depth = |mount: &Mount| mount.target().split('/').filter(|part| !part.is_empty()).count();
    let mut mounts: Vec<(usize, &Mount)> = input.spec.mounts.iter().enumerate().collect();
    mounts.sort_by_key(|(_, mount)| depth(mount));
    steps.extend(mounts.into_iter().map(|(index, mount)| user_mount(input, index, mount)));
}

fn user_mount(input: &Input<'_>, index: usize, mount: &Mount) -> Step {
    match mount {
        Mount::Bind { source, target, read_only, recursive, options } => Step::Bind {
            source: source.clone(),
            target: target.clone(),
            recursive: *recursive,
            attributes: MountAttributes {
                read_only: *read_only,
                no_set_user_id: true,
                no_devices: true,
                no_execute: options.no_execute,
            },
            optional: false,
            propagation: match options.propagation {
                Propagation::Private => protocol::Propagation::Private,
                Propagation::Slave => protocol::Propagation::Slave,
                Propagation::Shared => protocol::Propagation::Shared,
            },
            writable_below: options.writable_below,
            subpath: options.subpath.clone(),
        },
        Mount::Layers { target, subpath, .. } => Step::Bind {
            source: input.directory.mounted_layers(index),
            target: target.clone(),
            recursive: false,
            attributes: MountAttributes {
                read_only: true,
                no_set_user_id: true,
                no_devices: true,
                no_execute: false,
            },
            optional: false,
            propagation: protocol::Propagation::Private,
            writable_below: false,
            subpath: subpath.clone(),
        },
        Mount::Tmpfs { target, size, mode, read_only } => {
            let mode = ("mode".to_owned(), Some(format!("{:o}", mode.unwrap_or(0o1777))));
            let size = size.map(|size| ("size".to_owned(), Some(size.to_string())));
            let context = context(input.spec).map(|(key, label)| (key.to_owned(), Some(label.to_owned())));
            Step::MountFilesystem {
                filesystem: "tmpfs".into(),
                options: [mode].into_iter().chain(size).chain(context).collect(),
                attributes: if *read_only { QUIET_READ_ONLY } else { QUIET },
                target: target.clone(),
                plain_directory: false,
            }
        }
    }
}

fn masks(input: &Input<'_>, steps: &mut Vec<Step>) {
    if input.spec.privileged {
        return;
    }
    let masked = defaults::MASKED.iter().map(|&path| path.to_owned()).chain(input.host_masks.iter().cloned());
    let label = input.spec.selinux.as_ref().map(|labels| labels.mount.clone());
    steps.extend(masked.map(|path| Step::Mask { path, label: label.clone() }));
    steps.extend(defaults::READ_ONLY.iter().map(|&path| Step::ReadOnlyPath(path.to_owned())));
}

fn finish(input: &Input<'_>, steps: &mut Vec<Step>) {
    let spec = input.spec;
    steps.push(Step::PivotRoot);
    steps.push(Step::WorkingDirectory(if spec.cwd.is_empty() { "/".into() } else { spec.cwd.clone() }));
    if spec.read_only_rootfs {
        steps.push(Step::ReadOnlyRoot);
    }
    let label = spec.selinux.as_ref().map(|labels| labels.process.clone());
    steps.extend(label.clone().map(Step::KeyLabel));
    steps.push(Step::SessionKeyring(format!("_ses.{}", input.id)));
    for &(name, limit) in defaults::RESOURCE_LIMITS {
        let asked_for = spec.resource_limits.iter().any(|limit| limit.name == name);
        if let (false, Some(resource)) = (asked_for, resource_limit_number(name)) {
            steps.push(Step::DefaultResourceLimit(ResourceLimit { resource, soft: limit, hard: limit }));
        }
    }
    for limit in &spec.resource_limits {
        // Unknown names were refused by the validation.
        if let Some(resource) = resource_limit_number(&limit.name) {
            steps.push(Step::ResourceLimit(ResourceLimit { resource, soft: limit.soft, hard: limit.hard }));
        }
    }
    steps.extend(spec.apparmor.clone().map(Step::AppArmor));
    steps.extend(label.map(Step::ProcessLabel));
    steps.push(Step::Restrict(Credentials {
        capabilities: spec.capabilities.bits(),
        no_new_privileges: spec.no_new_privileges,
        seccomp: input.seccomp.clone(),
    }));
}

#[cfg(test)]
mod tests;
