//! From a failed call to a [`Failure`] that names the step, the call and its operands.

use coracle_runtime_protocol::{Failure, FailureKind};
use std::fmt::Display;

/// A call that failed, before the step is known.
#[derive(Debug)]
pub(crate) struct CallError {
    pub(crate) call: String,
    pub(crate) errno: i32,
    pub(crate) kind: FailureKind,
}

impl CallError {
    /// A refusal of ours, with no failed call behind it.
    pub(crate) fn refused(kind: FailureKind, why: impl Into<String>) -> Self {
        Self { call: why.into(), errno: 0, kind }
    }
}

/// Names the call that failed.
pub(crate) trait InCall<T> {
    fn in_call(self, call: impl FnOnce() -> String) -> Result<T, CallError>;
}

impl<T> InCall<T> for rustix::io::Result<T> {
    fn in_call(self, call: impl FnOnce() -> String) -> Result<T, CallError> {
        self.map_err(|errno| CallError {
            call: call(),
            errno: errno.raw_os_error(),
            kind: FailureKind::Other,
        })
    }
}

impl<T> InCall<T> for std::io::Result<T> {
    fn in_call(self, call: impl FnOnce() -> String) -> Result<T, CallError> {
        self.map_err(|error| match error.raw_os_error() {
            Some(errno) => CallError { call: call(), errno, kind: FailureKind::Other },
            None => CallError::refused(FailureKind::Other, format!("{}: {error}", call())),
        })
    }
}

/// Names the step during which a call failed.
pub(crate) trait During<T> {
    fn during(self, step: impl Display) -> Result<T, Failure>;
}

impl<T> During<T> for Result<T, CallError> {
    fn during(self, step: impl Display) -> Result<T, Failure> {
        self.map_err(|error| Failure {
            step: step.to_string(),
            call: error.call,
            errno: error.errno,
            kind: error.kind,
        })
    }
}
