//! The plan: everything the supervisor does to set up one container, decided beforehand.

use crate::hook::Hook;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// All that the supervisor needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Name of the container, for process titles and messages.
    pub container: String,
    /// Durable directory of the container: lock, state, exit record.
    pub state_directory: PathBuf,
    /// Directory of the container that does not survive a reboot: the control socket.
    pub run_directory: PathBuf,
    /// Execute the program without waiting for a request.
    pub start_at_once: bool,
    /// Namespace flags for clone(2), without the cgroup namespace, which is entered after joining the cgroup.
    pub namespaces: u64,
    /// Directory of the container's cgroup for `CLONE_INTO_CGROUP` (cgroup v2 only).
    pub cgroup_directory: Option<PathBuf>,
    /// Files into which the supervisor writes itself, so that it leaves the daemon's cgroup: `tasks` (v1) or
    /// `cgroup.procs` (v2).
    pub supervisor_cgroups: Vec<PathBuf>,
    /// Where the kernel counts kills for want of memory.
    pub out_of_memory: Option<OutOfMemoryCounter>,
    /// Where output goes.
    pub log: LogPlan,
    /// What init does, in order.
    pub steps: Vec<Step>,
    /// What init executes at last.
    pub program: Program,
    /// The program's standard streams are a terminal of the container's own.
    #[serde(default)]
    pub terminal: bool,
    /// Milliseconds from the supervisor's start on in which all [`Step::Hook`]s have to end, so that it is told which one does
    /// not before the daemon gives the container up.
    #[serde(default)]
    pub hooks_milliseconds: u64,
}

/// A file of `key value` lines and the key to look for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutOfMemoryCounter {
    /// `memory.events` (v2) or `memory.oom_control` (v1).
    pub file: PathBuf,
    /// `oom_kill` in both.
    pub key: String,
}

/// The rotated log of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPlan {
    /// Directory of the log files.
    pub directory: PathBuf,
    /// Bytes after which a file is rotated.
    pub max_size: u64,
    /// Number of files kept, the current one included; at least 1.
    pub max_files: u32,
    /// Nothing is kept.
    #[serde(default)]
    pub discard: bool,
}

/// The program, after everything is set up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Program and arguments; the program is looked up in `PATH` of `environment` when it has no slash.
    pub arguments: Vec<String>,
    /// `NAME=value` strings. `HOME` is added from the image's passwd file when missing.
    pub environment: Vec<String>,
    /// Run the program as a child of a small init that forwards signals and reaps orphans.
    pub reaper: bool,
}

/// One action of init. The order of a plan is its meaning; see the runtime's `plan` module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Make the kernel choose the container for want of memory as readily as any other process, whatever the daemon's
    /// own score is. A score above the ordinary one is kept where lowering it is not permitted.
    OrdinaryOutOfMemoryScore,
    /// Set the adjustment of that choice, -1000 to 1000 (proc_pid_oom_score_adj(5)).
    OutOfMemoryScore(i32),
    /// Take a part of the host's tree while its mounts still propagate, for a later [`Step::Bind`] of the same source.
    TakeTree {
        /// Path on the host.
        source: PathBuf,
        /// With the mounts below the source.
        recursive: bool,
        /// The container's mounts are to be seen on the host.
        shared: bool,
    },
    /// Make a directory of the host, with its parents, unless something is there.
    HostDirectory(PathBuf),
    /// Write ourselves, who have one thread, into this `tasks` file (cgroup v1).
    JoinCgroup(PathBuf),
    /// Make what we joined the root of a new cgroup namespace.
    NewCgroupNamespace,
    /// Enter the network namespace at this path.
    EnterNetwork(PathBuf),
    /// Bring the loopback device up.
    LoopbackUp,
    /// Set the host name of the UTS namespace.
    HostName(String),
    /// Stop all mounts from propagating to or from the host.
    PrivatePropagation,
    /// Mount the layers. All names in `options` are relative to `directory`, so that many layers fit in one page.
    MountOverlay {
        /// Working directory during the mount.
        directory: PathBuf,
        /// Mount options, `lowerdir=l/0:l/1,upperdir=…`.
        options: String,
        /// Where, relative to `directory`.
        target: PathBuf,
    },
    /// Mount the layers of another image for a later [`Step::Bind`] of a part of it. As [`Step::MountOverlay`], but no root.
    MountLayers {
        /// Working directory during the mount.
        directory: PathBuf,
        /// Mount options, `lowerdir=m/0/0:m/0/1`.
        options: String,
        /// Where, relative to `directory`.
        target: PathBuf,
    },
    /// Look up user and groups in the mounted image.
    ResolveUser {
        /// Name or number; empty means 0.
        user: String,
        /// Name or number of the primary group; `None` takes the user's.
        group: Option<String>,
        /// Names or numbers of further groups.
        additional_groups: Vec<String>,
    },
    /// Mount a new instance of a kernel file system.
    MountFilesystem {
        /// Name as in /proc/filesystems.
        filesystem: String,
        /// Options; a value of `None` is a flag.
        options: Vec<(String, Option<String>)>,
        /// Attributes of the mount.
        attributes: MountAttributes,
        /// Absolute path in the container. Created when missing.
        target: String,
        /// Refuse an image in which the target is anything but a directory, also a symbolic link to one.
        plain_directory: bool,
    },
    /// Attach a part of the host's tree.
    Bind {
        /// Path on the host.
        source: PathBuf,
        /// Absolute path in the container. Created when missing, as a directory or file like the source.
        target: String,
        /// With the mounts below the source.
        recursive: bool,
        /// Attributes to set.
        attributes: MountAttributes,
        /// Do nothing when the source is missing, instead of failing.
        optional: bool,
        /// How mounts below it are seen on either side; private ones are not.
        #[serde(default)]
        propagation: Propagation,
        /// Mounts below the source stay writable when the bind is read-only.
        #[serde(default)]
        writable_below: bool,
        /// Path below the source that is attached instead; no link in the source leads out of it. Empty is the source.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        subpath: String,
    },
    /// Make a character device in the container's /dev.
    Device(DeviceNode),
    /// Make a device of the host in the container.
    HostDevice(HostDevice),
    /// Make a directory in a file system that we mounted.
    Directory {
        /// Absolute path in the container; the parent exists.
        path: String,
    },
    /// Make a symbolic link in a file system that we mounted.
    SymbolicLink {
        /// Absolute path in the container; the parent exists.
        path: String,
        /// Contents of the link.
        target: String,
    },
    /// Write a kernel parameter of one of the container's namespaces.
    KernelParameter {
        /// Name with dots.
        name: String,
        /// Value.
        value: String,
    },
    /// Give the root of a file system that we mounted an SELinux label, where it can have one of its own.
    LabelRoot {
        /// Absolute path in the container.
        path: String,
        /// The label.
        label: String,
    },
    /// Hide a file behind /dev/null or a directory behind an empty one; nothing if it is missing.
    Mask {
        /// Absolute path in the container.
        path: String,
        /// SELinux label of the empty one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        label: Option<String>,
    },
    /// Make a path read-only; nothing if it is missing.
    ReadOnlyPath(String),
    /// Make a mount that we made read-only, now that its contents are made.
    SealMount(String),
    /// Run a program of the host, which changes what is mounted so far.
    Hook(Box<Hook>),
    /// Make the new root the root and detach the old one.
    PivotRoot,
    /// Make the root's mount read-only.
    ReadOnlyRoot,
    /// Create the working directory when missing, and enter it.
    WorkingDirectory(String),
    /// Make keys with this SELinux label, until the program is executed.
    KeyLabel(String),
    /// Join a new, empty session keyring of this name.
    SessionKeyring(String),
    /// Be confined by this AppArmor profile from the execution of the program on.
    AppArmor(String),
    /// Have this SELinux label from the execution of the program on.
    ProcessLabel(String),
    /// Set a resource limit that nobody asked for, as far as the hard limit allows, so that those of the daemon are
    /// not inherited.
    DefaultResourceLimit(ResourceLimit),
    /// Set a resource limit.
    ResourceLimit(ResourceLimit),
    /// Become the user, with these capabilities and filters. Always the last step.
    Restrict(Credentials),
}

/// Attributes of one mount; see mount_setattr(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountAttributes {
    /// `MOUNT_ATTR_RDONLY`
    pub read_only: bool,
    /// `MOUNT_ATTR_NOSUID`
    pub no_set_user_id: bool,
    /// `MOUNT_ATTR_NODEV`
    pub no_devices: bool,
    /// `MOUNT_ATTR_NOEXEC`
    pub no_execute: bool,
}

/// How mounts below a bind mount are seen on either side (mount_namespaces(7)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Propagation {
    /// Neither side sees the other's.
    #[default]
    Private,
    /// The container sees the host's.
    Slave,
    /// Both see each other's.
    Shared,
}

/// A device file like one of the host's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostDevice {
    /// Absolute path in the container; parents are made.
    pub path: String,
    /// Block rather than character device.
    pub block: bool,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub user: u32,
    /// Group.
    pub group: u32,
}

/// A character device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceNode {
    /// Name in /dev.
    pub name: String,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// setrlimit(2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceLimit {
    /// `RLIMIT_*` number of this architecture.
    pub resource: i32,
    /// Soft limit; `u64::MAX` is no limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// What the program may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// Bit mask of capabilities that a root user has, and that bound everybody.
    pub capabilities: u64,
    /// prctl(2) `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privileges: bool,
    /// The seccomp filter as hexadecimal digits of `struct sock_filter` instructions; `None` leaves it off.
    pub seccomp: Option<String>,
}

impl fmt::Display for MountAttributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.read_only { "ro" } else { "rw" })?;
        for (set, name) in
            [(self.no_set_user_id, "nosuid"), (self.no_devices, "nodev"), (self.no_execute, "noexec")]
        {
            if set {
                write!(f, ",{name}")?;
            }
        }
        Ok(())
    }
}

/// What is being done, as the first half of an error message and as a line of the plan.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OrdinaryOutOfMemoryScore => f.write_str("giving up the daemon's score for want of memory"),
            Self::OutOfMemoryScore(score) => write!(f, "setting oom-score-adj to {score}"),
            Self::TakeTree { source, .. } => write!(f, "taking the tree {}", source.display()),
            Self::HostDirectory(path) => write!(f, "making the bind source {}", path.display()),
            Self::JoinCgroup(file) => write!(f, "joining the cgroup {}", file.display()),
            Self::NewCgroupNamespace => f.write_str("making the cgroup namespace"),
            Self::EnterNetwork(path) => write!(f, "entering the network {}", path.display()),
            Self::LoopbackUp => f.write_str("bringing the loopback device up"),
            Self::HostName(name) => write!(f, "setting the host name {name:?}"),
            Self::PrivatePropagation => f.write_str("making all mounts private"),
            Self::MountOverlay { options, target, .. } => {
                write!(f, "mounting the root file system at {} ({options})", target.display())
            }
            Self::MountLayers { options, target, .. } => {
                write!(f, "mounting the layers of an image at {} ({options})", target.display())
            }
            Self::ResolveUser { user, group, additional_groups } => {
                write!(f, "looking up user {user:?} group {group:?} with groups {additional_groups:?}")
            }
            Self::MountFilesystem { filesystem, options, attributes, target, .. } => {
                write!(f, "mounting {filesystem} at {target} ({attributes}")?;
                for (key, value) in options {
                    match value {
                        Some(value) => write!(f, ",{key}={value}")?,
                        None => write!(f, ",{key}")?,
                    }
                }
                f.write_str(")")
            }
            Self::Bind { source, target, recursive, attributes, propagation, subpath, .. } => {
                let verb = if *recursive { "binding the tree" } else { "binding" };
                let propagation = match propagation {
                    Propagation::Private => "",
                    Propagation::Slave => ",slave",
                    Propagation::Shared => ",shared",
                };
                let below = if subpath.is_empty() { String::new() } else { format!(" below {subpath:?}") };
                write!(f, "{verb} {}{below} to {target} ({attributes}{propagation})", source.display())
            }
            Self::HostDevice(device) => {
                let kind = if device.block { "block" } else { "character" };
                write!(f, "making the {kind} device {} ({}:{})", device.path, device.major, device.minor)
            }
            Self::AppArmor(profile) => write!(f, "taking on the AppArmor profile {profile:?}"),
            Self::Device(node) => {
                write!(f, "making the device {} ({}:{})", node.name, node.major, node.minor)
            }
            Self::Directory { path } => write!(f, "making the directory {path}"),
            Self::SymbolicLink { path, target } => write!(f, "linking {path} to {target}"),
            Self::KernelParameter { name, value } => write!(f, "setting {name} to {value:?}"),
            Self::LabelRoot { path, label } => write!(f, "labelling {path} {label}"),
            Self::Mask { path, label: None } => write!(f, "masking {path}"),
            Self::Mask { path, label: Some(label) } => write!(f, "masking {path} (context={label})"),
            Self::ReadOnlyPath(path) => write!(f, "making {path} read-only"),
            Self::SealMount(path) => write!(f, "making the mount {path} read-only"),
            Self::Hook(hook) => write!(f, "running the hook {} of {}", hook.path.display(), hook.device),
            Self::PivotRoot => f.write_str("changing the root"),
            Self::ReadOnlyRoot => f.write_str("making the root read-only"),
            Self::WorkingDirectory(path) => write!(f, "entering the working directory {path:?}"),
            Self::KeyLabel(label) => write!(f, "labelling keys {label}"),
            Self::ProcessLabel(label) => write!(f, "taking on the SELinux label {label}"),
            Self::SessionKeyring(name) => write!(f, "joining the session keyring {name:?}"),
            Self::DefaultResourceLimit(limit) => write!(
                f,
                "setting resource limit {} to at most {}:{}",
                limit.resource, limit.soft, limit.hard
            ),
            Self::ResourceLimit(limit) => {
                write!(f, "setting resource limit {} to {}:{}", limit.resource, limit.soft, limit.hard)
            }
            Self::Restrict(credentials) => write!(
                f,
                "restricting privileges (capabilities {:016x}, no new privileges {}, seccomp {})",
                credentials.capabilities,
                credentials.no_new_privileges,
                credentials.seccomp.is_some()
            ),
        }
    }
}
