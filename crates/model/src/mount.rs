//! What is mounted into a container besides its root.

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
    /// A file or folder of the node, which must exist there.
    Bind {
        /// Absolute path on the node.
        source: String,
    },
    /// Memory.
    Tmpfs {
        /// Bytes at most; zero is the kernel's default, half of the memory.
        size: u64,
        /// Permission bits of its root.
        mode: u32,
    },
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
        }
    }
}
