//! Who may do what, over real TLS connections to a real manager that leads a cluster of its own.
#![allow(clippy::unwrap_used, reason = "tests")]

mod access;
mod lists;
mod place;
mod recovery;
mod worker;
mod world;
