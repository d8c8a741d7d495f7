//! Why something could not be done with a volume, for the operator.

use std::io;
use std::path::PathBuf;

use coracle_image::ImageError;
use coracle_image::tree::PackError;

use super::VolumeUser;

/// Why something could not be done with a volume.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// No volume can be called so.
    #[error(
        "volume name: invalid value {0:?}: use letters, digits, '_', '.' and '-', beginning with a letter or a digit, at most 255 bytes"
    )]
    Name(String),
    /// There is none.
    #[error("volume {0} is not on this node")]
    NotFound(String),
    /// There is one already.
    #[error("volume {0} exists on this node already: choose another name, or say that it is to be replaced")]
    Exists(String),
    /// Containers mount it.
    #[error("volume {name} is in use by {}: remove or move what uses it first", named(users))]
    InUse {
        /// Its name.
        name: String,
        /// The tasks.
        users: Vec<VolumeUser>,
    },
    /// Somebody saves it.
    #[error("volume {0} is being backed up: try again when that is done")]
    BackedUp(String),
    /// The node has as many as it may have.
    #[error("this node has {0} volumes, as many as it may have: prune some")]
    TooMany(usize),
    /// What is on disk cannot be used by this version.
    #[error("volume {name} cannot be used: {why}")]
    Unusable {
        /// Its name.
        name: String,
        /// Why.
        why: String,
    },
    /// What the image has could not be copied into it.
    #[error("volume {name}: {why}")]
    Filling {
        /// Its name.
        name: String,
        /// What happened.
        why: String,
    },
    /// The archive is not one, is refused, or could not be read or unpacked.
    #[error("volume {name} was not restored")]
    Restore {
        /// Its name.
        name: String,
        /// Why.
        source: ImageError,
    },
    /// It could not be read, or whoever wanted the archive does not take it.
    #[error("volume {name} was not backed up")]
    Backup {
        /// Its name.
        name: String,
        /// Why.
        source: PackError,
    },
    /// The caller wanted it to end.
    #[error("volume {0}: it was stopped")]
    Stopped(String),
    /// The disk refused something.
    #[error("{action} {}", path.display())]
    Io {
        /// What was attempted, in the form "writing".
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// The first tasks and how many more there are.
fn named(users: &[VolumeUser]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<String> = users.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = users.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}
