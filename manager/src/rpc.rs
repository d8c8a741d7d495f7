//! What every call to a manager passes before a handler sees it.

pub mod book;
pub mod forward;
pub mod member;
pub mod peers;
pub mod recheck;

use coracle_model::id::NodeId;
use coracle_proto::status::{ApiError, Reason};
use coracle_rpc::caller::Caller;

/// The node that calls; it is the certificate's, never one named in a message.
///
/// # Errors
/// With `otherwise`, if the caller is no node.
pub(crate) fn caller_node<T>(request: &tonic::Request<T>, otherwise: &str) -> Result<NodeId, ApiError> {
    let caller = request.extensions().get::<Caller>();
    caller.and_then(Caller::node).ok_or_else(|| ApiError::new(Reason::Unauthenticated, otherwise))
}
