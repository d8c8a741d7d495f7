//! The lab: whole clusters of real daemons on one machine.
//!
//! Every host is a set of namespaces (network, processes, mounts, host name) held by one small process;
//! hosts are joined by a bridge that lives in a network namespace of its own. Nothing touches the
//! machine's own network, and when the holding processes end, all of it is gone.
//! Daemons are watched from outside only: through the API, their sockets, and `/proc`.
//!
//! A test says how large a cluster it wants and what it expects:
//!
//! ```no_run
//! use coracle_integration::{harness, name::M1, name::W1};
//!
//! harness::test("workers_follow", 3, 2, |lab| {
//!     lab.cli(M1, "service create --detach --name web --replicas 4 responder:1").ok()?;
//!     lab.eventually("four tasks run", |view| view.running("web") == 4)?;
//!     lab.node(W1).kill_daemon()?;
//!     Ok(())
//! });
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

pub mod harness;
pub mod lab;
pub mod name;

pub mod cli;
pub mod node;
pub mod view;
pub mod writer;

pub mod api;
pub mod archive;
pub mod disk;
pub mod fault;
pub mod host;
pub mod http;
pub mod image;
pub mod nemesis;
pub mod network;
pub mod oracle;

pub mod cgroup;
pub mod process;

pub mod bench;
pub mod demo;
pub mod vm;
