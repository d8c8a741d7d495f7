//! Whom a certificate names: a worker, a manager or an operator.

use std::fmt;
use std::str::FromStr;

use coracle_model::id::NodeId;
use coracle_model::role::Role;

/// The holder of a certificate. The role and the kind of name cannot disagree.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A node that runs tasks.
    Worker(NodeId),
    /// A node that runs tasks and is part of the control plane.
    Manager(NodeId),
    /// A person or program that controls the cluster; it serves nothing.
    Operator(OperatorName),
}

impl Subject {
    /// The subject for a node with `role`, or none if that role is not a node's.
    pub fn node_with_role(node: NodeId, role: Role) -> Option<Self> {
        match role {
            Role::Worker => Some(Self::Worker(node)),
            Role::Manager => Some(Self::Manager(node)),
            Role::Operator => None,
        }
    }

    /// The role.
    pub fn role(&self) -> Role {
        match self {
            Self::Worker(_) => Role::Worker,
            Self::Manager(_) => Role::Manager,
            Self::Operator(_) => Role::Operator,
        }
    }

    /// The node, unless this is an operator.
    pub fn node(&self) -> Option<NodeId> {
        match self {
            Self::Worker(node) | Self::Manager(node) => Some(*node),
            Self::Operator(_) => None,
        }
    }

    /// What the certificate's common name holds.
    pub fn common_name(&self) -> String {
        match self {
            Self::Worker(node) | Self::Manager(node) => node.to_string(),
            Self::Operator(name) => name.to_string(),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.role().as_str(), self.common_name())
    }
}

/// What a certificate's organisational unit holds for `role`; also one of its alternative names.
pub(crate) fn organizational_unit(role: Role) -> &'static str {
    match role {
        Role::Worker => "coracle-worker",
        Role::Manager => "coracle-manager",
        Role::Operator => "coracle-operator",
    }
}

/// The role that an organisational unit stands for.
pub(crate) fn role_of_organizational_unit(text: &str) -> Option<Role> {
    [Role::Worker, Role::Manager, Role::Operator].into_iter().find(|role| organizational_unit(*role) == text)
}

/// The name of an operator: 1 to 63 lower-case letters, digits, `-` and `.`, beginning and ending
/// with a letter or digit, so that it is also a DNS name (RFC 1123, section 2.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OperatorName(String);

/// Why a text is no operator's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "operator name {name:?} is not valid: use 1 to 63 lower-case letters, digits, dashes and dots, \
     beginning and ending with a letter or digit"
)]
pub struct OperatorNameError {
    /// The text.
    pub name: String,
}

impl OperatorName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for OperatorName {
    type Err = OperatorNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = text.as_bytes();
        let valid = (1..=63).contains(&bytes.len())
            && bytes.iter().all(|byte| alphanumeric(byte) || matches!(byte, b'-' | b'.'))
            && bytes.first().is_some_and(alphanumeric)
            && bytes.last().is_some_and(alphanumeric)
            && !text.contains("..");
        if valid { Ok(Self(text.to_owned())) } else { Err(OperatorNameError { name: text.to_owned() }) }
    }
}

impl fmt::Display for OperatorName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operator_names() {
        for good in ["a", "admin", "ci-2.example"] {
            assert!(OperatorName::from_str(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a.", "A", "a b", "a..b", "ä", &"a".repeat(64)] {
            assert!(OperatorName::from_str(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn organizational_units_are_the_roles() {
        for role in [Role::Worker, Role::Manager, Role::Operator] {
            assert_eq!(role_of_organizational_unit(organizational_unit(role)), Some(role));
        }
        assert_eq!(role_of_organizational_unit("coracle-ca"), None);
    }
}
