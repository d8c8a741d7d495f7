//! What the agent needs of the machine: a trait where a test stands in for it, and the real thing.
//!
//! Images come from `coracle_image::ImageStore` and time from `coracle_daemon::Clock` as they are.

pub mod containers;
pub(crate) mod in_front;
pub mod runtime;

#[cfg(test)]
pub(crate) mod fake;
