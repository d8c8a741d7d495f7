//! Mounts.

use coracle_model::mount::{Mount, MountKind};

use super::{DecodeError, required};
use crate::v1;

impl From<&Mount> for v1::Mount {
    fn from(mount: &Mount) -> Self {
        let kind = match &mount.kind {
            MountKind::Bind { source } => v1::mount::Kind::Bind(v1::BindMount { source: source.clone() }),
            MountKind::Tmpfs { size, mode } => {
                v1::mount::Kind::Tmpfs(v1::TmpfsMount { size: *size, mode: *mode })
            }
        };
        Self { target: mount.target.clone(), read_only: mount.read_only, kind: Some(kind) }
    }
}

impl TryFrom<v1::Mount> for Mount {
    type Error = DecodeError;

    fn try_from(message: v1::Mount) -> Result<Self, DecodeError> {
        let kind = match required("mount type", message.kind)? {
            v1::mount::Kind::Bind(bind) => MountKind::Bind { source: bind.source },
            v1::mount::Kind::Tmpfs(tmpfs) => MountKind::Tmpfs { size: tmpfs.size, mode: tmpfs.mode },
        };
        Ok(Self { target: message.target, read_only: message.read_only, kind })
    }
}
