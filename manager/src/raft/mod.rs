//! Raft: the replicated log, snapshots and the transport. openraft and the log crate are known here and nowhere else.
//!
//! ```text
//! propose ─▶ RaftNode ─▶ openraft ─▶ LogStore ─▶ coracle-wal (vote and entries, one fdatasync per batch)
//!                          │  ▲
//!         Peers ◀──────────┘  └───── RaftService (gRPC from other managers)
//!                          └──▶ StateMachine ─▶ dyn ReplicatedState (the store)
//!                                     └───────▶ SnapshotStore (immutable sealed files)
//! ```
//!
//! - The *replicated state* ([`ReplicatedState`]) is in memory; truth is the log and the snapshot files.
//! - openraft's own types stay inside: entries, votes and log ids are protobuf on the wire and on disk ([`wire`]).
//! - A failure of storage is final: [`RaftNode::failure`] resolves, and the daemon exits to be started again.
//! - **Invariant:** nothing is acknowledged before it is durable on a majority; a Raft id is never used twice; a
//!   directory belongs to one Raft id of one cluster ([`identity`]).

mod compaction;
mod error;
mod files;
mod identity;
mod log_store;
mod membership;
mod network;
mod node;
mod platform;
mod publish;
mod pulse;
mod requests;
mod service;
mod settings;
mod snapshot;
mod state;
mod state_machine;
mod status;
mod types;
mod wire;

pub use error::{Leader, RaftError, RaftStartError};
pub use network::{ConnectError, PeerConnector, endpoint};
pub use node::{RaftConfig, RaftNode};
pub use platform::{Host, Platform};
pub use requests::Committed;
pub use service::RaftService;
pub use settings::{Limits, Timing};
pub use state::{ReplicatedState, SnapshotView};
pub use status::{Members, RaftStatus, Role};

#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;
