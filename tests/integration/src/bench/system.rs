//! The systems that are measured.

use std::fmt;

use serde::Serialize;

/// A system, ours or a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum System {
    /// The product.
    Coracle,
    /// Docker Engine in swarm mode.
    Swarm,
    /// etcd, for the writes and the failover of a replicated log.
    Etcd,
    /// runc, for one container from a bundle.
    Runc,
    /// crun, for the same.
    Crun,
}

impl System {
    /// All peers, in the order of the columns.
    pub(super) const PEERS: [Self; 4] = [Self::Swarm, Self::Etcd, Self::Runc, Self::Crun];
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Coracle => "Coracle",
            Self::Swarm => "Swarm",
            Self::Etcd => "etcd",
            Self::Runc => "runc",
            Self::Crun => "crun",
        })
    }
}
