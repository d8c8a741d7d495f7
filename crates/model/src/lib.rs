//! The vocabulary of Coracle: identifiers, specifications, objects, states and the rules that bind them.
//!
//! Nothing here does I/O, knows a clock, or has a wire or stored format: those live in `coracle-proto`.
//! The manager's pure core, the command line and the agent all speak in these types.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

pub mod id;
pub mod role;
pub mod time;
pub mod version;

pub mod digest;
pub mod image_ref;

pub mod constraint;
pub mod cron;
pub mod generic;
pub mod health;
pub mod job;
pub mod mount;
pub mod name;
pub mod placement;
pub mod rebalance;
pub mod resources;
pub mod restart;
pub mod rollout;
pub mod security;

pub mod cluster;
pub mod image;
pub mod node;
pub mod secret;
pub mod service;
pub mod task;
pub mod template;
pub mod volume;

pub mod checksum;
pub mod similar;
pub mod validate;
