//! How a failed step of setting up a container is told.

use serde::{Deserialize, Serialize};
use std::fmt;

/// One failed step: what was being done, which call said no, and with which error number.
///
/// Prints as `binding the new root: mount("/x")=EPERM`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What was being done, such as `mounting the root file system`.
    pub step: String,
    /// The call with its operands, or a sentence where no call failed.
    pub call: String,
    /// The kernel's error number, 0 where no call failed.
    pub errno: i32,
    /// What a caller may want to tell apart.
    pub kind: FailureKind,
}

/// Failures that callers treat differently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// Anything else.
    #[default]
    Other,
    /// The source of a bind mount is not there.
    MissingBindSource,
    /// The program is not in the image.
    ProgramNotFound,
    /// The program is there but cannot be executed.
    ProgramNotExecutable,
    /// The user or a group is not in the image, or is no valid number.
    UnknownUser,
    /// The image has something in a place where the runtime must mount, such as a symbolic link at /proc.
    RefusedRootfs,
    /// This node cannot do what the specification asks for.
    Unsupported,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, self.call)?;
        if self.errno != 0 {
            write!(f, "={}", ErrorNumber(self.errno))?;
        }
        self.advice().map_or(Ok(()), |advice| write!(f, ": {advice}"))
    }
}

impl Failure {
    /// What an operator is to look at, where the number alone misleads: execve(2) has one number for several causes.
    fn advice(&self) -> Option<&'static str> {
        match (self.kind, self.errno) {
            (FailureKind::ProgramNotFound, 2) => {
                Some("the image has no such program, or not the interpreter or loader that the program names")
            }
            (FailureKind::ProgramNotExecutable, 8) => {
                Some("it is of another architecture, or a script whose first line does not begin with #!")
            }
            (FailureKind::ProgramNotExecutable, 13) => {
                Some("it is no file, or the container's user may not execute it")
            }
            _ => None,
        }
    }
}

impl std::error::Error for Failure {}

struct ErrorNumber(i32);

impl fmt::Display for ErrorNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match errno_name(self.0) {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

/// The symbolic name of an error number (asm-generic/errno.h), for the numbers that setting up a container can meet.
#[must_use]
pub fn errno_name(errno: i32) -> Option<&'static str> {
    const NAMES: &[(i32, &str)] = &[
        (1, "EPERM"),
        (2, "ENOENT"),
        (3, "ESRCH"),
        (4, "EINTR"),
        (5, "EIO"),
        (6, "ENXIO"),
        (7, "E2BIG"),
        (8, "ENOEXEC"),
        (9, "EBADF"),
        (10, "ECHILD"),
        (11, "EAGAIN"),
        (12, "ENOMEM"),
        (13, "EACCES"),
        (14, "EFAULT"),
        (15, "ENOTBLK"),
        (16, "EBUSY"),
        (17, "EEXIST"),
        (18, "EXDEV"),
        (19, "ENODEV"),
        (20, "ENOTDIR"),
        (21, "EISDIR"),
        (22, "EINVAL"),
        (23, "ENFILE"),
        (24, "EMFILE"),
        (25, "ENOTTY"),
        (26, "ETXTBSY"),
        (27, "EFBIG"),
        (28, "ENOSPC"),
        (30, "EROFS"),
        (32, "EPIPE"),
        (36, "ENAMETOOLONG"),
        (38, "ENOSYS"),
        (39, "ENOTEMPTY"),
        (40, "ELOOP"),
        (95, "EOPNOTSUPP"),
        (110, "ETIMEDOUT"),
        (116, "ESTALE"),
    ];
    NAMES.iter().find(|(number, _)| *number == errno).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(kind: FailureKind, errno: i32) -> String {
        Failure { step: "executing the program".to_owned(), call: r#"execve("/x")"#.to_owned(), errno, kind }
            .to_string()
    }

    #[test]
    fn a_program_that_cannot_be_executed_is_told_with_what_to_look_at() {
        assert_eq!(
            failure(FailureKind::ProgramNotFound, 2),
            r#"executing the program: execve("/x")=ENOENT: the image has no such program, or not the interpreter or loader that the program names"#
        );
        assert!(failure(FailureKind::ProgramNotExecutable, 8).contains("another architecture"));
        assert!(
            failure(FailureKind::ProgramNotExecutable, 13)
                .ends_with("the container's user may not execute it")
        );
        assert_eq!(failure(FailureKind::Other, 2), r#"executing the program: execve("/x")=ENOENT"#);
        assert_eq!(failure(FailureKind::ProgramNotFound, 0), r#"executing the program: execve("/x")"#);
    }
}
