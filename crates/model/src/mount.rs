//! What is mounted into a container besides its root.

use std::collections::BTreeMap;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Mount {
    /// Absolute path inside the container.
    pub target: String,
    /// Writes are refused.
    pub read_only: bool,
    /// What is mounted.
    pub kind: MountKind,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum MountKind {
    /// A file or folder of the node.
    Bind {
        /// Absolute path on the node.
        source: String,
        /// How mounts below it are seen on either side.
        propagation: Propagation,
        /// What happens to mounts below the source.
        recursive: Recursive,
        /// A folder is made where the source does not exist; otherwise it must exist.
        create_source: bool,
    },
    /// Memory.
    Tmpfs {
        /// Bytes at most; zero is the kernel's default, half of the memory.
        size: u64,
        /// Permission bits of its root.
        mode: u32,
    },
    /// A named volume of the node, made when a task first needs it.
    Volume {
        /// Its name; empty is one of the task's own that goes with it.
        name: String,
        /// Given to it when it is made.
        labels: BTreeMap<String, String>,
        /// What the image has at the target is not copied into a new volume.
        no_copy: bool,
        /// Path below the volume's root that is mounted; empty is the root.
        subpath: String,
    },
    /// The content of another image, read-only.
    Image {
        /// The image.
        image: crate::service::PinnedImage,
        /// Path below its root that is mounted; empty is the root.
        subpath: String,
    },
}

/// How mounts below a bind mount are seen on either side (mount_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Propagation {
    /// Neither side sees the other's, recursively.
    #[default]
    RecursivePrivate,
    /// Neither side sees the other's.
    Private,
    /// Both see each other's.
    Shared,
    /// Both see each other's, recursively.
    RecursiveShared,
    /// The container sees the node's.
    Slave,
    /// The container sees the node's, recursively.
    RecursiveSlave,
}

impl Propagation {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::RecursivePrivate,
        Self::Private,
        Self::Shared,
        Self::RecursiveShared,
        Self::Slave,
        Self::RecursiveSlave,
    ];

    /// The word on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RecursivePrivate => "rprivate",
            Self::Private => "private",
            Self::Shared => "shared",
            Self::RecursiveShared => "rshared",
            Self::Slave => "slave",
            Self::RecursiveSlave => "rslave",
        }
    }
}

/// What happens to mounts below the source of a bind mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Recursive {
    /// They come along; where the mount is read-only they are made so where the kernel can (mount_setattr(2)).
    #[default]
    Enabled,
    /// They do not come along.
    Disabled,
    /// They come along and stay writable.
    Writable,
    /// They come along and must be made read-only, or the task is rejected.
    ReadOnly,
}

impl Recursive {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Enabled, Self::Disabled, Self::Writable, Self::ReadOnly];

    /// The word on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::Writable => "writable",
            Self::ReadOnly => "readonly",
        }
    }
}

/// Permission bits of a tmpfs mount unless said otherwise: everybody may write, the sticky bit is set.
pub const TMPFS_MODE: u32 = 0o1777;

impl Mount {
    /// The word for the kind on the command line.
    #[must_use]
    pub const fn type_word(&self) -> &'static str {
        match self.kind {
            MountKind::Bind { .. } => "bind",
            MountKind::Tmpfs { .. } => "tmpfs",
            MountKind::Volume { .. } => "volume",
            MountKind::Image { .. } => "image",
        }
    }
}
