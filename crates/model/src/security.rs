//! What a container may do beyond an ordinary process, and what confines it.

use std::collections::BTreeSet;

/// What a container may do beyond an ordinary process, and what confines it. The default is the safe one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Privileges {
    /// Everything is allowed; only where the cluster's policy allows it.
    pub privileged: bool,
    /// Capabilities added to the default set, as `CAP_NET_ADMIN` or `ALL`.
    pub capabilities_added: BTreeSet<String>,
    /// Capabilities taken from it.
    pub capabilities_dropped: BTreeSet<String>,
    /// Programs may not gain privileges by being executed; on unless switched off.
    pub new_privileges: bool,
    /// Filter of system calls.
    pub seccomp: Seccomp,
    /// AppArmor profile, where the node has AppArmor.
    pub apparmor: AppArmor,
    /// SELinux label options as `KEY:VALUE` (`user`, `role`, `type`, `level`, and `filetype` for the container's files), or
    /// `disable`.
    pub selinux: Vec<String>,
}

/// Filter of system calls.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Seccomp {
    /// The built-in profile.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// A profile in the format of the OCI runtime specification (JSON).
    Custom(String),
}

/// AppArmor profile.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AppArmor {
    /// The node's own choice.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// One that is loaded on the node.
    Profile(String),
}

/// A device of the node inside the container.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Device {
    /// A device file.
    Path {
        /// Absolute path on the node.
        host: String,
        /// Absolute path in the container.
        container: String,
        /// Any of `r`, `w` and `m` (mknod).
        permissions: String,
    },
    /// A device by its qualified name in the node's CDI files (`vendor.com/class=name`).
    Cdi(String),
}

/// Whether a kind of namespace is shared with the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum NamespaceMode {
    /// One of its own.
    #[default]
    Private,
    /// The node's.
    Host,
}

impl NamespaceMode {
    /// The word on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Host => "host",
        }
    }
}
