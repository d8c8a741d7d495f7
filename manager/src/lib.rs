//! The control plane of a manager: the shell around `coracle-manager-core`.
//!
//! Everything that decides is in the core; this crate gives it time, randomness, a replicated log and the network.
//!
//! - [`raft`]: the log, snapshots and the transport under openraft; nothing else knows openraft.
//! - [`store`]: `view`, `propose`, `watch`: how everybody reads and writes the replicated state.
//! - [`reserve`]: what happens before a disk is full.
//! - [`leader`]: what runs only while this manager leads.
//! - [`reconcile`]: the driver of the core's planners.
//! - [`dispatcher`]: sessions of agents.
//! - [`ca`], [`membership`]: certificates and Raft membership.
//! - [`api`]: the control API, one file per resource.
//! - [`rpc`]: what every call passes: membership of the caller, forwarding to the leader.
//! - [`manager`]: the assembly.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

pub mod codec;
pub mod manager;
pub mod raft;
pub mod reserve;
pub mod store;

pub mod api;
pub mod ca;
pub mod dispatcher;
pub mod leader;
pub mod membership;
pub mod reconcile;
pub mod rpc;
