//! Why an entry was not applied, before the layer and the entry are named.

use rustix::io::Errno;

use crate::error::{ImageError, LimitKind, Refusal};

use super::super::attributes::AttributeError;
use super::super::entry_path::PathError;
use super::super::root::ParentError;

/// An entry is refused, or the kernel refused something for it.
pub(super) enum Failure {
    Refused(Refusal),
    Limit(LimitKind, u64),
    Kernel(&'static str, Errno),
    Image(ImageError),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<PathError> for Failure {
    fn from(error: PathError) -> Self {
        match error {
            PathError::Refused(refusal) => Self::Refused(refusal),
            PathError::Limit(kind, allowed) => Self::Limit(kind, allowed),
        }
    }
}

impl From<ParentError> for Failure {
    fn from(error: ParentError) -> Self {
        match error {
            ParentError::Refused(refusal) => Self::Refused(refusal),
            ParentError::Kernel(errno) => Self::Kernel("opening the parent of", errno),
        }
    }
}

impl From<AttributeError> for Failure {
    fn from(error: AttributeError) -> Self {
        match error {
            AttributeError::Refused(refusal) => Self::Refused(refusal),
            AttributeError::Kernel(errno) => Self::Kernel("setting an extended attribute of", errno),
        }
    }
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Self {
        Self::Image(error)
    }
}

/// Names a failed system call.
pub(super) trait During<T> {
    fn during(self, action: &'static str) -> Result<T, Failure>;
}

impl<T> During<T> for Result<T, Errno> {
    fn during(self, action: &'static str) -> Result<T, Failure> {
        self.map_err(|errno| Failure::Kernel(action, errno))
    }
}
