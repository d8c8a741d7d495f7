//! What clients saw of a cluster, and whether a correct cluster could have shown it to them.
//!
//! A test records every operation of every client in a [`History`]: when it began, when it was answered, and what
//! the answer was. The state is seen as registers: a key holds a value or nothing. [`History::check`] then looks
//! for what a linearizable store with an index per write can never show; it takes O(n log n), because the indices
//! say in which order things happened. Where answers carry no index, [`linearize::check`] searches for an order.
//!
//! Nothing here has a clock: times are numbers that the test brings, of one clock for all clients.
//!
//! ```
//! use coracle_history::{Answer, History, Kind};
//!
//! let mut history = History::new();
//! history.record(1, "zone", Kind::Write(Some("a")), 10, 20, Answer::written(7));
//! history.record(2, "zone", Kind::Read, 30, 40, Answer::read(9, Some("a")));
//! assert!(history.check().is_empty());
//!
//! history.record(2, "zone", Kind::Read, 50, 60, Answer::read(10, None));
//! assert_eq!(history.check()[0].rule, coracle_history::Rule::LostWrite);
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

pub mod linearize;

mod history;
mod operation;
mod order;
mod segments;
mod values;
mod violation;

pub use history::{History, Tally};
pub use operation::{Answer, Kind, Operation, Time};
pub use violation::{Rule, Violation};
