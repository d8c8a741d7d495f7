//! The pure heart of the manager: replicated state, how it changes, and what to change next.
//!
//! - [`change`], [`apply()`]: the closed list of writes, and the one function that applies them.
//! - [`state`]: tables and indices in persistent maps; a [`state::View`] is an immutable snapshot of them.
//! - [`orchestrate`], [`schedule`]: planners, each a pure function of a view, a key and a time.
//! - [`assign`], [`counts`]: what a node should hold, and how far a service is.
//! - [`session`]: which nodes are there, as a state machine.
//!
//! **Invariant:** no I/O, no clock, no randomness; the same calls give the same results on every machine.
//! Time and identifiers are passed in. Lookups that find nothing are answers, never panics.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

pub mod change;
pub mod outcome;
pub mod state;

pub mod apply;
pub mod touched;

pub mod plan;

pub mod orchestrate;
pub mod schedule;

pub mod assign;
pub mod counts;
pub mod session;

pub use apply::apply;
pub use change::{Change, Proposal};
pub use outcome::{Outcome, Refusal, RefusalKind};
pub use plan::{IdSource, Plan, PlanContext, Waiting};
pub use state::{State, View};
pub use touched::Touched;
