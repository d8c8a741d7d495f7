//! Histograms of 64-bit values in at most 4 KiB each.
//!
//! openraft keeps about twenty of these per node to tell percentiles of batch sizes and latencies. The crate of this
//! name in the registry computes lookup tables for sixteen resolutions at first use, which is most of a small
//! manager's memory. This one offers the part of its interface that openraft uses, computes where a value belongs
//! instead of looking it up, and lets a histogram grow with the values that it sees.
//!
//! [`scale`] says which values share a bucket, [`Histogram`] counts, [`PercentileStats`] and [`AsciiChart`] show.
//!
//! ```
//! use base2histogram::Histogram;
//!
//! let mut latencies = Histogram::<()>::new();
//! latencies.record(120);
//! latencies.record_n(80, 3);
//! assert_eq!(latencies.total(), 4);
//! assert!((80..88).contains(&latencies.percentile(0.5)));
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

pub mod scale;

mod chart;
mod histogram;
mod stats;

pub use chart::{AsciiChart, CompactDisplay, DetailedDisplay};
pub use histogram::{Bucket, Histogram};
pub use stats::PercentileStats;
