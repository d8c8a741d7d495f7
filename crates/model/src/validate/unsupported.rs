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
    ("env with {{placeholders}}", |spec| {
        spec.task.container.env.iter().any(|variable| has_placeholder(variable))
    }),
    ("mount with {{placeholders}}", |spec| {
        spec.task.container.mounts.iter().any(|mount| match &mount.kind {
            MountKind::Bind { source, .. } => has_placeholder(source) || has_placeholder(&mount.target),
            _ => has_placeholder(&mount.target),
        })
    }),
];

/// Swarm would fill it in. Anything else between braces is the container's own.
fn has_placeholder(text: &str) -> bool {
    const NAMES: [&str; 4] = [".Service.", ".Node.", ".Task.", "index .Service."];
    text.split("{{").skip(1).any(|rest| NAMES.iter().any(|name| rest.trim_start().starts_with(name)))
}

/// Refuses what cannot be done yet.
pub(super) fn check(spec: &ServiceSpec) -> Result<(), Invalid> {
    match WAITING.iter().find(|(_, asks)| asks(spec)) {
        Some((field, _)) => invalid(field, "true", "not supported by this version yet; leave it out"),
        None => Ok(()),
    }
}
