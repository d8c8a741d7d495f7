//! The agent of a node: runs what the managers assign, and tells them how it fares.
//!
//! ```text
//!   manager ◀──session──▶ desk ──wish──▶ runner (one per task) ──▶ containers, images
//!                          │ ◀──status──────┘
//!                       journal
//! ```
//!
//! - [`agent`]: the whole, and the handle that the daemon keeps.
//! - `session`: the stream with the leader. `desk`: what is wanted and what is. `task`: one task's machine.
//! - `transfer`: images from node to node. `collect`: which of them go. `logs`: what managers ask to read. `journal`: what survives a restart.
//! - `health`: what health checks say. [`identity`]: joining and renewing.
//! - `files`: secrets and configs, in memory only.
//! - [`volume`]: named volumes.
//! - [`adapters`]: the container runtime, as the agent sees it.
//!
//! **Invariant:** the truth is with the managers (what is wanted) and the runtime (what is there). The agent may be
//! killed at any moment, and its journal deleted: the next one goes on from those two.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

pub mod adapters;
pub mod agent;
pub mod identity;
pub mod launch;
pub mod logs;
pub mod transfer;
pub mod volume;

mod assignments;
mod collect;
mod desk;
mod files;
mod health;
mod image_use;
mod journal;
mod outbox;
mod retention;
mod selinux;
mod session;
mod task;

#[cfg(test)]
mod tests;

pub use collect::IMAGE_GRACE;
pub use files::LaunchFile;
pub use selinux::Labels;

pub use agent::{Agent, AgentConfig, AgentError, AgentHandle, AgentStatus, NodeUpdate};
