//! Why something was not done with a volume, as managers are told.

use std::io;

use coracle_daemon::ErrorChain;
use coracle_image::{ErrorClass, ImageError};
use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1;

use crate::volume::VolumeError;

/// Tasks that are named.
const TASKS: usize = 20;

/// More than are done at a time.
pub(super) fn too_many(what: &str, limit: usize) -> v1::VolumeProblem {
    ApiError::new(Reason::Exhausted, format!("{limit} {what} already"))
        .with_hint("try again when some are done")
        .into()
}

/// A newer manager asks for what this version does not know.
pub(super) fn not_known() -> v1::VolumeProblem {
    ApiError::new(Reason::Forbidden, "the agent of this node does not know what is asked of its volumes")
        .with_hint("update the node")
        .into()
}

/// What an operator is told.
pub(super) fn problem(error: &VolumeError) -> v1::VolumeProblem {
    let text = ErrorChain(error).to_string();
    let api = match error {
        VolumeError::Name(_) => ApiError::new(Reason::Invalid, text),
        VolumeError::NotFound(name) => ApiError::new(Reason::NotFound, format!("no volume {name:?}")),
        VolumeError::Exists(name) => {
            ApiError::new(Reason::Exists, format!("a volume {name:?} is there already"))
                .with_hint("choose another name, or --replace it")
        }
        VolumeError::InUse { name, users } => {
            return in_use(name, users.iter().map(|user| user.task.to_string()));
        }
        VolumeError::BackedUp(name) => {
            ApiError::new(Reason::Forbidden, format!("volume {name} is being backed up"))
                .with_hint("try again when that is done")
        }
        VolumeError::TooMany(_) => ApiError::new(Reason::Exhausted, text),
        VolumeError::Unusable { .. } | VolumeError::Filling { .. } | VolumeError::Backup { .. } => {
            ApiError::new(Reason::Internal, text)
        }
        VolumeError::Restore { source, .. } => ApiError::new(of_image(source), text),
        VolumeError::Stopped(_) => ApiError::new(Reason::Unavailable, "it was stopped"),
        VolumeError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
            ApiError::new(Reason::Exhausted, text)
        }
        VolumeError::Io { .. } => ApiError::new(Reason::Internal, text),
    };
    api.into()
}

fn in_use(name: &str, tasks: impl ExactSizeIterator<Item = String>) -> v1::VolumeProblem {
    let which = if tasks.len() == 1 { "1 task".to_owned() } else { format!("{} tasks", tasks.len()) };
    let message = format!("volume {name} is in use by {which}");
    let hint = "remove, scale down or move what uses it first";
    let problem = ApiError::new(Reason::Forbidden, message).with_hint(hint);
    v1::VolumeProblem { tasks: tasks.take(TASKS).collect(), ..problem.into() }
}

fn of_image(error: &ImageError) -> Reason {
    match error.class() {
        ErrorClass::BadInput => Reason::Invalid,
        ErrorClass::Input => Reason::Unavailable,
        ErrorClass::NoSpace => Reason::Exhausted,
        ErrorClass::Absent | ErrorClass::Busy | ErrorClass::Io => Reason::Internal,
    }
}
