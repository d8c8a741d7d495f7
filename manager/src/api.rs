//! The control API, one file per resource. A handler has four moves: who calls, parse into model types, do, render.

pub mod file;
mod file_use;
pub mod image;
mod image_mount;
pub mod logs;
pub mod node;
pub mod progress;
mod rebalance;
pub mod resolve;
pub mod service;
pub mod swarm;
pub mod task;
pub mod volume;
#[cfg(test)]
mod world;

use coracle_model::id::IdempotencyKey;
use coracle_proto::status::{ApiError, Reason};
use coracle_rpc::caller::Caller;

/// Who asks, for the event log.
fn actor<T>(request: &tonic::Request<T>) -> String {
    request.extensions().get::<Caller>().map_or_else(|| "unknown".to_owned(), ToString::to_string)
}

fn idempotency(text: &str) -> Result<Option<IdempotencyKey>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error| ApiError::new(Reason::Invalid, format!("{error}")))
}
