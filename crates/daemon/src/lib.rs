//! What every daemon of ours needs, and nothing that knows what a cluster is.
//!
//! A daemon's `main` uses the parts in this order: [`hardening`] before anything secret is in memory,
//! [`telemetry`] before anything can be logged, [`shutdown`] and [`task`] around everything that runs,
//! [`notify`] to tell the service manager how far it is.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

pub mod backoff;
pub mod clock;
pub mod error_chain;
pub mod hardening;
pub mod notify;
pub mod shutdown;
pub mod task;
pub mod telemetry;

pub use backoff::{Backoff, BackoffPolicy};
pub use clock::{Clock, ManualClock, SystemClock};
pub use error_chain::ErrorChain;
pub use notify::Notifier;
pub use shutdown::Shutdown;
pub use task::{OnCancel, OnError, Tasks};
