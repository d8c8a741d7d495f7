//! Names of containers.

use std::fmt;
use std::str::FromStr;

/// A container's name: 1 to 64 letters, digits, `_`, `.` or `-`, beginning with a letter or digit, so that it can be
/// a directory, a cgroup and a host name's beginning.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerId(String);

/// The text cannot be a [`ContainerId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "container id {0:?} must be 1 to 64 letters, digits, '_', '.' or '-', beginning with a letter or digit"
)]
pub struct InvalidContainerId(String);

impl ContainerId {
    /// The text of the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ContainerId {
    type Err = InvalidContainerId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let well_formed = text.len() <= 64
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
            // The name of the cgroup that all supervisors share.
            && text != crate::cgroup::SUPERVISORS;
        if well_formed { Ok(Self(text.to_owned())) } else { Err(InvalidContainerId(text.to_owned())) }
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_can_be_directories() {
        for good in ["a", "web.1.x7", "A-b_c"] {
            assert!(good.parse::<ContainerId>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "-a", "ä", "a b", &"x".repeat(65), "supervisors"] {
            assert!(bad.parse::<ContainerId>().is_err(), "{bad}");
        }
    }
}
