//! What a caller asks for.

use crate::capability::Capabilities;
use crate::selinux::SelinuxLabels;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// One container. Start from [`ContainerSpec::new`], which sets the safe defaults.
#[derive(Clone, Debug)]
pub struct ContainerSpec {
    /// Where the file tree comes from.
    pub rootfs: Rootfs,
    /// Program and arguments. A program without a slash is looked up in `PATH` inside the container.
    pub args: Vec<String>,
    /// `NAME=value`. `PATH`, `HOSTNAME` and `HOME` get defaults when missing.
    pub env: Vec<String>,
    /// `NAME=value` in place of those above of the same name, written nowhere: see [`SecretVariables`].
    pub secret_env: SecretVariables,
    /// Working directory, created when missing; empty means `/`.
    pub cwd: String,
    /// Who the program runs as.
    pub user: User,
    /// Host name; `None` takes the first 12 bytes of the id.
    pub hostname: Option<String>,
    /// Make the root file system read-only (mounts keep their own mode).
    pub read_only_rootfs: bool,
    /// Further mounts; applied by depth of their target, so the order does not matter.
    pub mounts: Vec<Mount>,
    /// Which network the container sees.
    pub network: Network,
    /// Limits.
    pub resources: Resources,
    /// What root in the container may do.
    pub capabilities: Capabilities,
    /// Whether set-user-id programs gain nothing. On by default.
    pub no_new_privileges: bool,
    /// Filter of system calls.
    pub seccomp: Seccomp,
    /// AppArmor profile that is loaded on the host; `None` is the host's own choice.
    pub apparmor: Option<String>,
    /// SELinux labels; without them the container has the daemon's own, as far as the policy does not say otherwise.
    pub selinux: Option<SelinuxLabels>,
    /// Nothing of the host's devices and kernel file systems is kept away. Capabilities, system call filter and
    /// `no_new_privileges` are asked for separately.
    pub privileged: bool,
    /// Devices of the host.
    pub devices: Vec<Device>,
    /// Devices by their names in the host's CDI files, as `vendor.com/class=name`.
    pub cdi_devices: Vec<String>,
    /// Namespaces that are the host's.
    pub host_namespaces: HostNamespaces,
    /// Size of /dev/shm in bytes; `None` is 64 MiB.
    pub shm_size: Option<u64>,
    /// Adjustment of the kernel's choice when memory runs out, -1000 to 1000.
    pub oom_score_adj: i32,
    /// The standard streams are a terminal. Its output is logged as it comes, as standard output.
    pub terminal: bool,
    /// Resource limits of the program; others are inherited from the caller.
    pub resource_limits: Vec<ResourceLimit>,
    /// Kernel parameters of the container's own namespaces, by dotted name.
    pub sysctls: BTreeMap<String, String>,
    /// Files placed into /etc.
    pub files: PlacedFiles,
    /// Where output is logged.
    pub log: LogConfig,
    /// Kept with the container and returned by listings; never interpreted.
    pub labels: BTreeMap<String, String>,
    /// Run a small init as process 1 that reaps orphans and forwards signals.
    pub init: bool,
}

impl ContainerSpec {
    /// A container of these layers (topmost first) that runs `args`, with all protections on.
    #[must_use]
    pub fn new(lower: Vec<PathBuf>, args: Vec<String>) -> Self {
        Self {
            rootfs: Rootfs::Overlay { lower },
            args,
            env: Vec::new(),
            secret_env: SecretVariables::default(),
            cwd: String::new(),
            user: User::default(),
            hostname: None,
            read_only_rootfs: false,
            mounts: Vec::new(),
            network: Network::None,
            resources: Resources::default(),
            capabilities: Capabilities::container_default(),
            no_new_privileges: true,
            seccomp: Seccomp::Default,
            apparmor: None,
            selinux: None,
            privileged: false,
            devices: Vec::new(),
            cdi_devices: Vec::new(),
            host_namespaces: HostNamespaces::default(),
            shm_size: None,
            oom_score_adj: 0,
            terminal: false,
            resource_limits: Vec::new(),
            sysctls: BTreeMap::new(),
            files: PlacedFiles::default(),
            log: LogConfig::default(),
            labels: BTreeMap::new(),
            init: false,
        }
    }
}

/// Variables whose values are secrets. Like the whole plan they reach the supervisor through a memory file that is never on a
/// disk, and stay in its memory, for programs that are run beside the container's own; they are in no record, and not printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretVariables(Vec<String>);

impl SecretVariables {
    /// Takes `NAME=value` strings.
    #[must_use]
    pub const fn new(entries: Vec<String>) -> Self {
        Self(entries)
    }

    /// Every caller of this is a place to look at in a review.
    pub(crate) fn reveal(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Debug for SecretVariables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|entry| entry.split('=').next().unwrap_or_default());
        f.debug_list().entries(names).finish()
    }
}

/// Filter of system calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Seccomp {
    /// The built-in one.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// A profile as `linux.seccomp` of the OCI runtime specification has it, or with Docker's additions (JSON).
    Custom(String),
}

/// A device of the host, or a folder of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Absolute path on the host.
    pub host: PathBuf,
    /// Absolute path in the container.
    pub container: String,
    /// Any of `r`, `w` and `m` (mknod).
    pub permissions: String,
}

/// Namespaces that are the host's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostNamespaces {
    /// The container sees, and may signal, the host's processes.
    pub pid: bool,
    /// The container sees the host's shared memory, semaphores and queues.
    pub ipc: bool,
    /// The container has the host's name.
    pub uts: bool,
}

/// A container's file tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rootfs {
    /// Read-only directories, topmost first, below a writable layer that the runtime keeps under its `state_dir`
    /// until the container is deleted.
    Overlay {
        /// Absolute paths of unpacked layers.
        lower: Vec<PathBuf>,
    },
}

/// Names and numbers are looked up in the image's own /etc/passwd and /etc/group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// Name or number; empty means 0.
    pub user: String,
    /// Name or number; `None` takes the user's primary group.
    pub group: Option<String>,
    /// Names or numbers of further groups.
    pub additional_groups: Vec<String>,
}

/// A mount in the container. Targets are absolute, created when missing, and never leave the container, whatever
/// links the image has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mount {
    /// A part of the host's tree.
    Bind {
        /// Absolute path on the host; it must exist.
        source: PathBuf,
        /// Absolute path in the container.
        target: String,
        /// Whether the container may only read.
        read_only: bool,
        /// With the mounts below the source. Read-only then holds for them too.
        recursive: bool,
        /// What is rarely asked for.
        options: BindOptions,
    },
    /// An empty file system in memory, without devices, set-user-id or executables.
    Tmpfs {
        /// Absolute path in the container.
        target: String,
        /// Largest size in bytes; `None` is the kernel's default, half of the memory.
        size: Option<u64>,
        /// Permission bits of its root; `None` is 1777.
        mode: Option<u32>,
        /// Whether the container may only read it.
        read_only: bool,
    },
    /// Read-only directories over each other, as an image has them.
    Layers {
        /// Absolute paths of unpacked layers, topmost first.
        lower: Vec<PathBuf>,
        /// Absolute path in the container.
        target: String,
        /// Path below their root that is mounted, which no link in them leads out of; empty is the root.
        subpath: String,
    },
}

impl Mount {
    /// Path in the container.
    #[must_use]
    pub fn target(&self) -> &str {
        match self {
            Self::Bind { target, .. } | Self::Tmpfs { target, .. } | Self::Layers { target, .. } => target,
        }
    }
}

/// What is rarely asked of a bind mount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BindOptions {
    /// How mounts below it are seen on either side.
    pub propagation: Propagation,
    /// Mounts below the source stay writable when it is read-only.
    pub writable_below: bool,
    /// A directory is made, with its parents, where the source is missing.
    pub create_source: bool,
    /// Path below the source that is mounted instead, which no link in the source leads out of; empty is the source. Not
    /// with a propagation other than private.
    pub subpath: String,
    /// Nothing on it is executed.
    pub no_execute: bool,
}

/// How mounts below a bind mount are seen on either side (mount_namespaces(7)), recursively.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    /// Neither side sees the other's.
    #[default]
    Private,
    /// The container sees the host's.
    Slave,
    /// Both see each other's.
    Shared,
}

/// The network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// A new one with the loopback device only.
    None,
    /// The caller's.
    Host,
    /// An existing one, bound to this path.
    Path(PathBuf),
}

/// Limits. `Default` limits only the number of processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resources {
    /// Processor time in billionths of one processor; `None` is unlimited.
    pub cpu_nano: Option<u64>,
    /// Memory in bytes; `None` is unlimited.
    pub memory_bytes: Option<u64>,
    /// Memory and swap together in bytes; `None` is twice `memory_bytes`, as in Docker; `u64::MAX` is no limit of swap.
    pub memory_swap: Option<u64>,
    /// How readily memory is swapped out, 0 to 100; `None` is the host's setting. cgroup v1 only.
    pub swappiness: Option<u32>,
    /// Processors that it may run on, as `0-2,7`; `None` is all.
    pub cpuset: Option<String>,
    /// Processes and threads; `None` is unlimited.
    pub pids: Option<u64>,
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            cpu_nano: None,
            memory_bytes: None,
            memory_swap: None,
            swappiness: None,
            cpuset: None,
            pids: Some(4096),
        }
    }
}

/// setrlimit(2), by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceLimit {
    /// Name as in Docker: `nofile`, `nproc`, `core`, `memlock`, …
    pub name: String,
    /// Soft limit; `u64::MAX` is none.
    pub soft: u64,
    /// Hard limit; `u64::MAX` is none.
    pub hard: u64,
}

/// Contents of files that the container gets in /etc. They may be changed inside, as in Docker, without effect on
/// the image. With [`Network::Host`] a missing one shows the host's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlacedFiles {
    /// /etc/hosts; `None` is localhost only.
    pub hosts: Option<String>,
    /// /etc/resolv.conf; `None` keeps the image's.
    pub resolv_conf: Option<String>,
}

/// The rotated log of a container's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Directory, created when missing and then not removed with the container; `None` is the container's own.
    pub directory: Option<PathBuf>,
    /// Bytes after which a file is rotated.
    pub max_size: u64,
    /// Files kept, the current one included.
    pub max_files: u32,
    /// Nothing is kept.
    pub discard: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { directory: None, max_size: 10 << 20, max_files: 3, discard: false }
    }
}
