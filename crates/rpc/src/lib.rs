//! The gRPC edge of every node: listeners, the identity of callers, the access table's gate, and
//! channels to other nodes.
//!
//! - [`serve`]: accepts mutual TLS connections and local ones, with limits on everything a stranger controls.
//! - [`caller`]: who calls, decided by certificate or socket and by nothing that a message says.
//! - [`door`]: who is let in, and how many at a time.
//! - [`limit`]: how much one source may use.
//! - [`gate`]: checks every call against the access table before any handler sees it.
//! - [`connect`]: channels to other nodes whose certificate must be the expected one.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

pub mod caller;
pub mod connect;
pub mod door;
pub mod gate;
pub mod limit;
pub mod serve;
