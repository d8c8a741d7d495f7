//! What a certificate allows its holder to be.

use std::fmt;
use std::str::FromStr;

/// The role in a certificate, and the role that a node is asked to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Runs tasks.
    Worker,
    /// Runs tasks and takes part in Raft.
    Manager,
    /// A person or a program that uses the control API from outside; never a node.
    Operator,
}

impl Role {
    /// The word used in certificates, tables and constraints.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Manager => "manager",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a text is not a role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid role {0:?}: use worker, manager or operator")]
pub struct RoleError(String);

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        match text {
            "worker" => Ok(Self::Worker),
            "manager" => Ok(Self::Manager),
            "operator" => Ok(Self::Operator),
            other => Err(RoleError(other.to_owned())),
        }
    }
}
