//! Who calls.

use std::fmt;
use std::net::IpAddr;

use coracle_model::id::NodeId;
use coracle_model::role::Role;
use coracle_pki::Subject;
use coracle_pki::identity::PeerIdentity;
use coracle_proto::access;

/// The caller of a request, put into its extensions by the listener.
#[derive(Debug, Clone)]
pub enum Caller {
    /// Nobody that we know: a TLS connection without a certificate.
    Stranger,
    /// The holder of a certificate of this cluster.
    Member(PeerIdentity),
    /// A user on the local socket.
    Local(LocalUser),
    /// Whoever called another manager, which passed the call on.
    Forwarded(ForwardedCaller),
}

/// A user on the local socket, as the kernel says (`SO_PEERCRED`, unix(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalUser {
    /// User id.
    pub uid: u32,
    /// Process id, when the kernel knows it.
    pub pid: Option<i32>,
    /// The socket is a manager's, so that the user speaks as an operator.
    pub operator: bool,
}

/// A caller that another manager vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForwardedCaller {
    /// Without a certificate, from this address.
    Stranger(Option<IpAddr>),
    /// A node.
    Node(NodeId, Role),
    /// An operator, by name or by the user of a local socket.
    Operator(String),
}

/// The manager that passed a call on, in the extensions of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassedOnBy(pub NodeId);

/// The header that carries a forwarded caller; removed from every call that no manager sends.
pub const FORWARDED_HEADER: &str = "coracle-forwarded-caller";

impl Caller {
    /// What this caller counts as in the access table.
    #[must_use]
    pub fn roles(&self) -> Vec<access::Caller> {
        match self {
            Self::Stranger | Self::Forwarded(ForwardedCaller::Stranger(_)) => vec![access::Caller::Anyone],
            Self::Member(identity) => vec![role(identity.role())],
            Self::Local(user) if user.operator => vec![access::Caller::Local, access::Caller::Operator],
            Self::Local(_) => vec![access::Caller::Local],
            Self::Forwarded(ForwardedCaller::Node(_, node_role)) => vec![role(*node_role)],
            Self::Forwarded(ForwardedCaller::Operator(_)) => vec![access::Caller::Operator],
        }
    }

    /// The node, if it is one.
    #[must_use]
    pub fn node(&self) -> Option<NodeId> {
        match self {
            Self::Member(identity) => identity.node(),
            Self::Forwarded(ForwardedCaller::Node(node, _)) => Some(*node),
            _ => None,
        }
    }

    /// Where a stranger calls from, given the other end of the connection: when a manager passed the call on, what that manager
    /// says. Nothing for those who are known by better than their address.
    #[must_use]
    pub fn stranger_address(&self, peer: Option<IpAddr>) -> Option<IpAddr> {
        match self {
            Self::Stranger => peer,
            Self::Forwarded(ForwardedCaller::Stranger(address)) => *address,
            _ => None,
        }
    }

    /// What a manager says of this caller, at the other end of a connection with `peer`, when it passes the call on.
    #[must_use]
    pub fn to_forwarded(&self, peer: Option<IpAddr>) -> ForwardedCaller {
        match self {
            Self::Stranger => ForwardedCaller::Stranger(peer),
            Self::Member(identity) => match identity.subject() {
                Subject::Worker(node) => ForwardedCaller::Node(*node, Role::Worker),
                Subject::Manager(node) => ForwardedCaller::Node(*node, Role::Manager),
                Subject::Operator(name) => ForwardedCaller::Operator(name.to_string()),
            },
            Self::Local(user) => ForwardedCaller::Operator(format!("uid:{}", user.uid)),
            Self::Forwarded(forwarded) => forwarded.clone(),
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_forwarded(None) {
            ForwardedCaller::Stranger(_) => f.write_str("a caller without a certificate"),
            ForwardedCaller::Node(node, role) => write!(f, "{role} {node}"),
            ForwardedCaller::Operator(name) => write!(f, "operator {name}"),
        }
    }
}

const fn role(role: Role) -> access::Caller {
    match role {
        Role::Worker => access::Caller::Worker,
        Role::Manager => access::Caller::Manager,
        Role::Operator => access::Caller::Operator,
    }
}

impl ForwardedCaller {
    /// The value of the header.
    #[must_use]
    pub fn encode(&self) -> String {
        match self {
            Self::Stranger(None) => "stranger".to_owned(),
            Self::Stranger(Some(address)) => format!("stranger {address}"),
            Self::Node(node, role) => format!("node {node} {role}"),
            Self::Operator(name) => format!("operator {}", printable(name)),
        }
    }

    /// Reads the value of the header; nothing when it is not one that we write.
    #[must_use]
    pub fn decode(text: &str) -> Option<Self> {
        if text == "stranger" {
            return Some(Self::Stranger(None));
        }
        if let Some(address) = text.strip_prefix("stranger ") {
            return address.parse().ok().map(|address| Self::Stranger(Some(address)));
        }
        if let Some(name) = text.strip_prefix("operator ") {
            return Some(Self::Operator(name.to_owned()));
        }
        let (node, role) = text.strip_prefix("node ")?.split_once(' ')?;
        let role = role.parse().ok().filter(|role| *role != Role::Operator)?;
        Some(Self::Node(node.parse().ok()?, role))
    }
}

fn printable(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_graphic() { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarded_callers_round_trip() {
        for caller in [
            ForwardedCaller::Stranger(None),
            ForwardedCaller::Stranger(Some("2001:db8::7".parse().unwrap())),
            ForwardedCaller::Node(NodeId::from_bits(7), Role::Manager),
            ForwardedCaller::Operator("uid:0".to_owned()),
        ] {
            assert_eq!(ForwardedCaller::decode(&caller.encode()), Some(caller));
        }
    }

    #[test]
    fn a_forwarded_node_cannot_be_an_operator() {
        assert_eq!(ForwardedCaller::decode("node 0000000000000000000000007 operator"), None);
        assert_eq!(ForwardedCaller::decode("root"), None);
        assert_eq!(ForwardedCaller::decode("stranger nowhere"), None);
    }
}
