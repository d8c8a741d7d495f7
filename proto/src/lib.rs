//! The wire and stored formats of Coracle, and the one place where messages become model types and back.
//!
//! - [`v1`]: generated messages, clients and servers of package `coracle.v1`.
//! - [`access`]: who may call which method, generated from an option on every method.
//! - [`convert`]: messages to model types and back.
//! - [`status`]: the one map from refusals to gRPC statuses and back.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

/// Generated from `proto/*.proto`.
#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/coracle.v1.rs"));
}

pub mod access;
pub mod convert;
pub mod status;

mod redact;
