//! Mounts.

use coracle_model::digest::Digest;
use coracle_model::mount::{Mount, MountKind, Propagation, Recursive};
use coracle_model::service::PinnedImage;

use super::{DecodeError, enumerator, parse, required};
use crate::v1;

impl From<&Mount> for v1::Mount {
    fn from(mount: &Mount) -> Self {
        let kind = match &mount.kind {
            MountKind::Bind { source, propagation, recursive, create_source } => {
                v1::mount::Kind::Bind(v1::BindMount {
                    source: source.clone(),
                    propagation: v1::Propagation::from(*propagation).into(),
                    recursive: v1::Recursive::from(*recursive).into(),
                    create_source: *create_source,
                })
            }
            MountKind::Tmpfs { size, mode } => {
                v1::mount::Kind::Tmpfs(v1::TmpfsMount { size: *size, mode: *mode })
            }
            MountKind::Volume { name, labels, no_copy, subpath } => {
                v1::mount::Kind::Volume(v1::VolumeMount {
                    name: name.clone(),
                    labels: labels.clone().into_iter().collect(),
                    no_copy: *no_copy,
                    subpath: subpath.clone(),
                })
            }
            MountKind::Image { image, subpath } => {
                v1::mount::Kind::Image(v1::ImageMount { image: Some(image.into()), subpath: subpath.clone() })
            }
        };
        Self { target: mount.target.clone(), read_only: mount.read_only, kind: Some(kind) }
    }
}

impl TryFrom<v1::Mount> for Mount {
    type Error = DecodeError;

    fn try_from(message: v1::Mount) -> Result<Self, DecodeError> {
        let kind = match required("mount type", message.kind)? {
            v1::mount::Kind::Bind(bind) => MountKind::Bind {
                propagation: enumerator::<v1::Propagation>("bind-propagation", bind.propagation)?.into(),
                recursive: enumerator::<v1::Recursive>("bind-recursive", bind.recursive)?.into(),
                source: bind.source,
                create_source: bind.create_source,
            },
            v1::mount::Kind::Tmpfs(tmpfs) => MountKind::Tmpfs { size: tmpfs.size, mode: tmpfs.mode },
            v1::mount::Kind::Volume(volume) => MountKind::Volume {
                name: volume.name,
                labels: volume.labels.into_iter().collect(),
                no_copy: volume.no_copy,
                subpath: volume.subpath,
            },
            v1::mount::Kind::Image(image) => MountKind::Image {
                image: mounted_image(required("mount source", image.image)?)?,
                subpath: image.subpath,
            },
        };
        Ok(Self { target: message.target, read_only: message.read_only, kind })
    }
}

/// A request need not know the digest: it is then all zeroes, and the manager puts the right one there.
fn mounted_image(message: v1::PinnedImage) -> Result<PinnedImage, DecodeError> {
    let digest = if message.digest.is_empty() {
        Digest::from_bytes([0; 32])
    } else {
        parse("image digest", &message.digest)?
    };
    Ok(PinnedImage { reference: message.reference, digest })
}

impl From<Propagation> for v1::Propagation {
    fn from(propagation: Propagation) -> Self {
        match propagation {
            Propagation::RecursivePrivate => Self::Rprivate,
            Propagation::Private => Self::Private,
            Propagation::Shared => Self::Shared,
            Propagation::RecursiveShared => Self::Rshared,
            Propagation::Slave => Self::Slave,
            Propagation::RecursiveSlave => Self::Rslave,
        }
    }
}

impl From<v1::Propagation> for Propagation {
    fn from(message: v1::Propagation) -> Self {
        match message {
            v1::Propagation::Rprivate => Self::RecursivePrivate,
            v1::Propagation::Private => Self::Private,
            v1::Propagation::Shared => Self::Shared,
            v1::Propagation::Rshared => Self::RecursiveShared,
            v1::Propagation::Slave => Self::Slave,
            v1::Propagation::Rslave => Self::RecursiveSlave,
        }
    }
}

impl From<Recursive> for v1::Recursive {
    fn from(recursive: Recursive) -> Self {
        match recursive {
            Recursive::Enabled => Self::Enabled,
            Recursive::Disabled => Self::Disabled,
            Recursive::Writable => Self::Writable,
            Recursive::ReadOnly => Self::Readonly,
        }
    }
}

impl From<v1::Recursive> for Recursive {
    fn from(message: v1::Recursive) -> Self {
        match message {
            v1::Recursive::Enabled => Self::Enabled,
            v1::Recursive::Disabled => Self::Disabled,
            v1::Recursive::Writable => Self::Writable,
            v1::Recursive::Readonly => Self::ReadOnly,
        }
    }
}
