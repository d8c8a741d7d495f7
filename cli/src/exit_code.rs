//! What the exit status of a command means. This list is a promise to scripts: entries are only ever added.

use coracle_proto::status::Reason;

/// The exit status of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ExitCode {
    /// Done.
    Success = 0,
    /// Anything that is not listed here.
    Failure = 1,
    /// The command line, or a value in it, is not accepted; nothing was done.
    Usage = 2,
    /// An object that was named does not exist.
    NotFound = 3,
    /// The name is taken, or the object was changed meanwhile; read it again.
    Conflict = 4,
    /// The daemon, a leader or a majority of managers cannot be reached; trying again may help.
    Unavailable = 5,
    /// A rule forbids it, the caller may not do it, or a limit is reached.
    Refused = 6,
    /// The write was accepted, but the service did not converge within `--timeout`.
    NotConverged = 7,
    /// The write was accepted, but the update was paused or rolled back, the job failed, or tasks are not started again.
    UpdateFailed = 8,
    /// Interrupted; what was accepted goes on.
    Interrupted = 130,
}

/// The list for `--help`.
pub(crate) const HELP: &str = "\
Exit status:
  0    done
  1    failed for another reason
  2    the command line or a value in it is not accepted
  3    an object does not exist
  4    the name is taken, or the object was changed meanwhile
  5    the daemon, a leader or a majority of managers cannot be reached
  6    a rule forbids it, or a limit is reached
  7    accepted, but not converged within --timeout
  8    accepted, but the update was paused or rolled back, the job failed, or tasks are not started again
  130  interrupted; what was accepted goes on";

impl From<Reason> for ExitCode {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Invalid => Self::Usage,
            Reason::NotFound => Self::NotFound,
            Reason::Exists | Reason::Stale => Self::Conflict,
            Reason::Unavailable | Reason::NotLeader | Reason::OutcomeUnknown => Self::Unavailable,
            Reason::Forbidden
            | Reason::Unauthenticated
            | Reason::Removed
            | Reason::TooLarge
            | Reason::Exhausted => Self::Refused,
            Reason::Internal => Self::Failure,
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_lists_every_code() {
        let codes = [
            ExitCode::Success,
            ExitCode::Failure,
            ExitCode::Usage,
            ExitCode::NotFound,
            ExitCode::Conflict,
            ExitCode::Unavailable,
            ExitCode::Refused,
            ExitCode::NotConverged,
            ExitCode::UpdateFailed,
            ExitCode::Interrupted,
        ];
        let listed: Vec<_> = HELP.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
        let expected: Vec<_> = codes.iter().map(|code| (*code as u8).to_string()).collect();
        assert_eq!(listed, expected);
    }
}
