//! What a specification can say and this version cannot do yet: refused here, and only here, instead of being ignored.
//!
//! Whoever makes one of these work removes its line.

use crate::mount::MountKind;
use crate::service::ServiceSpec;

use super::{Invalid, invalid};

type Asks = fn(&ServiceSpec) -> bool;

const WAITING: &[(&str, Asks)] = &[
    ("mount type=volume", |spec| {
        spec.task.container.mounts.iter().any(|mount| matches!(mount.kind, MountKind::Volume { .. }))
    }),
    ("mount type=image", |spec| {
        spec.task.container.mounts.iter().any(|mount| matches!(mount.kind, MountKind::Image { .. }))
    }),
];

/// Refuses what cannot be done yet.
pub(super) fn check(spec: &ServiceSpec) -> Result<(), Invalid> {
    match WAITING.iter().find(|(_, asks)| asks(spec)) {
        Some((field, _)) => invalid(field, "true", "not supported by this version yet; leave it out"),
        None => Ok(()),
    }
}
