//! Placement constraints: `key==value` and `key!=value`, as Swarm has them.
//!
//! Values are compared whole and without regard to case; label keys keep their case. A label that is
//! missing counts as the empty string, so `node.labels.zone!=a` holds on a node without a zone.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::node::Node;

/// What a constraint looks at.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// `node.id`
    Id,
    /// `node.hostname`
    Hostname,
    /// `node.ip`, an address or a CIDR block
    Ip,
    /// `node.role`
    Role,
    /// `node.platform.os`
    Os,
    /// `node.platform.arch`
    Architecture,
    /// `node.labels.K`, set by operators of the cluster
    NodeLabel(String),
    /// `engine.labels.K`, set on the node itself
    EngineLabel(String),
}

/// One constraint.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Constraint {
    key: Key,
    equal: bool,
    value: String,
}

/// Why a text is not a constraint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("constraint: invalid value {text:?}: {problem}")]
pub struct ConstraintError {
    text: String,
    problem: &'static str,
}

impl Constraint {
    /// Whether the node may have the task.
    #[must_use]
    pub fn admits(&self, node: &Node) -> bool {
        self.matches(node) == self.equal
    }

    /// The label that a node must have, where this asks for one.
    #[must_use]
    pub fn wanted_label(&self) -> Option<WantedLabel<'_>> {
        match &self.key {
            Key::NodeLabel(key) if self.equal => Some(WantedLabel { key, engine: false }),
            Key::EngineLabel(key) if self.equal => Some(WantedLabel { key, engine: true }),
            _ => None,
        }
    }

    fn matches(&self, node: &Node) -> bool {
        let same = |actual: &str| actual.eq_ignore_ascii_case(&self.value);
        match &self.key {
            Key::Id => same(&node.id.to_string()),
            Key::Hostname => same(&node.description.hostname),
            Key::Ip => address_within(&node.status.address, &self.value),
            Key::Role => same(node.spec.role.as_str()),
            Key::Os => same(&node.description.platform.os),
            Key::Architecture => {
                same(&node.description.platform.architecture)
                    || normal_architecture(&self.value)
                        == normal_architecture(&node.description.platform.architecture)
            }
            Key::NodeLabel(key) => same(node.spec.labels.get(key).map_or("", String::as_str)),
            Key::EngineLabel(key) => same(node.description.labels.get(key).map_or("", String::as_str)),
        }
    }
}

/// A label that a constraint asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WantedLabel<'a> {
    key: &'a str,
    engine: bool,
}

impl WantedLabel<'_> {
    /// Its key.
    #[must_use]
    pub const fn name(&self) -> &str {
        self.key
    }

    /// Whether the node has it, with whichever value.
    #[must_use]
    pub fn is_on(&self, node: &Node) -> bool {
        let labels = if self.engine { &node.description.labels } else { &node.spec.labels };
        labels.contains_key(self.key)
    }
}

/// The OCI word for an architecture, whichever of its names is given.
#[must_use]
pub fn normal_architecture(name: &str) -> String {
    match name.to_ascii_lowercase().as_str() {
        "x86_64" | "x86-64" => "amd64".to_owned(),
        "aarch64" => "arm64".to_owned(),
        other => other.to_owned(),
    }
}

/// Whether `address` (`IP` or `IP:PORT`) is the address or lies within the block `wanted`.
fn address_within(address: &str, wanted: &str) -> bool {
    let Some(address) = parse_ip(address) else { return false };
    let (block, bits) = match wanted.split_once('/') {
        Some((block, bits)) => (block, bits.parse::<u32>().ok()),
        None => (wanted, Some(128)),
    };
    match (address, block.parse::<IpAddr>(), bits) {
        (IpAddr::V4(address), Ok(IpAddr::V4(block)), Some(bits)) => {
            let kept = bits.min(32);
            let mask = u32::MAX.checked_shl(32 - kept).unwrap_or(0);
            address.to_bits() & mask == block.to_bits() & mask
        }
        (IpAddr::V6(address), Ok(IpAddr::V6(block)), Some(bits)) => {
            let mask = u128::MAX.checked_shl(128 - bits.min(128)).unwrap_or(0);
            address.to_bits() & mask == block.to_bits() & mask
        }
        _ => false,
    }
}

fn parse_ip(text: &str) -> Option<IpAddr> {
    text.parse().ok().or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|socket| socket.ip()))
}

fn parse_key(text: &str) -> Result<Key, &'static str> {
    let lower = text.to_ascii_lowercase();
    let label = |prefix: &str| lower.starts_with(prefix).then(|| text[prefix.len()..].to_owned());
    Ok(match lower.as_str() {
        "node.id" => Key::Id,
        "node.hostname" => Key::Hostname,
        "node.ip" => Key::Ip,
        "node.role" => Key::Role,
        "node.platform.os" => Key::Os,
        "node.platform.arch" => Key::Architecture,
        _ => match (label("node.labels."), label("engine.labels.")) {
            (Some(key), _) if !key.is_empty() => Key::NodeLabel(key),
            (_, Some(key)) if !key.is_empty() => Key::EngineLabel(key),
            _ => {
                return Err(
                    "unknown key; use node.id, node.hostname, node.ip, node.role, node.platform.os, \
                            node.platform.arch, node.labels.KEY or engine.labels.KEY",
                );
            }
        },
    })
}

fn allowed_in_value(character: char) -> bool {
    character.is_ascii_alphanumeric() || ":-_ .*()?+[]\\^$|/\t".contains(character)
}

impl FromStr for Constraint {
    type Err = ConstraintError;

    fn from_str(text: &str) -> Result<Self, ConstraintError> {
        let refuse = |problem| ConstraintError { text: text.to_owned(), problem };
        let (key, equal, value) = match (text.find("=="), text.find("!=")) {
            (Some(at), other) if other.is_none_or(|other| at < other) => (&text[..at], true, &text[at + 2..]),
            (_, Some(at)) => (&text[..at], false, &text[at + 2..]),
            _ => return Err(refuse("use key==value or key!=value")),
        };
        let (key, value) = (key.trim(), value.trim());
        if value.is_empty() || !value.chars().all(allowed_in_value) {
            return Err(refuse("the value is empty or has a character that is not allowed"));
        }
        if !key.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c)) {
            return Err(refuse("the key has a character that is not allowed"));
        }
        Ok(Self { key: parse_key(key).map_err(refuse)?, equal, value: value.to_owned() })
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Key::Id => f.write_str("node.id"),
            Key::Hostname => f.write_str("node.hostname"),
            Key::Ip => f.write_str("node.ip"),
            Key::Role => f.write_str("node.role"),
            Key::Os => f.write_str("node.platform.os"),
            Key::Architecture => f.write_str("node.platform.arch"),
            Key::NodeLabel(key) => write!(f, "node.labels.{key}"),
            Key::EngineLabel(key) => write!(f, "engine.labels.{key}"),
        }?;
        write!(f, "{}{}", if self.equal { "==" } else { "!=" }, self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::tests::node;
    use crate::role::Role;

    fn admits(constraint: &str, change: impl FnOnce(&mut Node)) -> bool {
        let mut node = node(1);
        change(&mut node);
        constraint.parse::<Constraint>().unwrap().admits(&node)
    }

    #[test]
    fn values_are_compared_whole_and_without_case() {
        let zone = |node: &mut Node| {
            node.spec.labels.insert("zone".to_owned(), "A1".to_owned());
        };
        assert!(admits("node.labels.zone==a1", zone));
        assert!(!admits("node.labels.zone==a", zone));
        assert!(!admits("node.labels.Zone==a1", zone), "label keys keep their case");
        assert!(admits("node.labels.rack!=r1", zone), "a missing label is the empty string");
        assert!(admits(" node.role != manager ", |_| ()));
    }

    #[test]
    fn every_key_is_looked_up_on_the_node() {
        let described = |node: &mut Node| {
            node.spec.role = Role::Manager;
            node.spec.labels.insert("zone".to_owned(), "a".to_owned());
            node.description.hostname = "host-1".to_owned();
            node.description.platform.os = "linux".to_owned();
            node.description.platform.architecture = "aarch64".to_owned();
            node.description.labels.insert("zone".to_owned(), "b".to_owned());
        };
        let id = node(1).id.to_string();
        for (key, value) in [
            ("node.id", id.as_str()),
            ("node.hostname", "host-1"),
            ("node.role", "manager"),
            ("node.platform.os", "linux"),
            ("node.platform.arch", "aarch64"),
            ("node.labels.zone", "a"),
            ("engine.labels.zone", "b"),
        ] {
            assert!(admits(&format!("{key}=={value}"), described), "{key}");
            assert!(!admits(&format!("{key}!={value}"), described), "{key}");
            assert!(!admits(&format!("{key}==other"), described), "{key}");
            assert!(admits(&format!("{key}!=other"), described), "{key}");
        }
    }

    #[test]
    fn addresses_match_blocks() {
        let at = |node: &mut Node| node.status.address = "10.1.2.3:2377".to_owned();
        assert!(admits("node.ip==10.1.2.3", at));
        assert!(admits("node.ip==10.1.0.0/16", at));
        assert!(!admits("node.ip==10.2.0.0/16", at));
        assert!(admits("node.ip!=fe80::/10", at));
        assert!(admits("node.ip==0.0.0.0/0", at));
    }

    #[test]
    fn architectures_have_two_names() {
        assert!(
            admits("node.platform.arch==x86_64", |n| n.description.platform.architecture = "amd64".into())
        );
    }

    #[test]
    fn text_form_round_trips() {
        for text in ["node.role==manager", "engine.labels.disk!=ssd", "node.labels.a==b c"] {
            assert_eq!(text.parse::<Constraint>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn bad_constraints_are_refused_with_their_text() {
        for text in [
            "",
            "node.role",
            "node.role=manager",
            "node.rol==x",
            "node.labels.==x",
            "node.id==",
            "node.id==a;b",
        ] {
            let error = text.parse::<Constraint>().unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }
}
