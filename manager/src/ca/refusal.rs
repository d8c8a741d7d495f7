//! What machines are told that get no certificate.

use std::net::IpAddr;

use coracle_model::id::NodeId;
use coracle_proto::status::{ApiError, Reason};

pub(super) fn wrong_token() -> ApiError {
    ApiError::new(Reason::Unauthenticated, "the join token is not valid (any more)")
        .with_hint("get the present one on a manager with `coracle swarm join-token worker`, or manager")
}

pub(super) fn too_many(address: IpAddr) -> ApiError {
    let message = format!("too many machines try to join or to come back from {address}, or altogether");
    ApiError::new(Reason::Exhausted, message).with_hint("try again in a moment")
}

pub(super) fn no_state() -> ApiError {
    ApiError::new(Reason::Unavailable, "this manager has not received the cluster's state yet")
        .with_hint("try again in a moment, or name another manager")
}

pub(super) fn removed(node: NodeId) -> ApiError {
    ApiError::new(Reason::Removed, format!("node {node} was removed from this cluster"))
        .with_hint("let it leave with `coracle swarm leave` and join again")
}

pub(super) fn no_member(node: NodeId) -> ApiError {
    ApiError::new(Reason::Unauthenticated, format!("node {node} is not a member (any more)"))
        .with_hint("let it leave with `coracle swarm leave` and join again")
}

/// For somebody with an old copy of a node's key.
pub(super) fn is_here(node: NodeId) -> ApiError {
    let message = format!("node {node} is connected with a newer certificate than the one presented");
    ApiError::new(Reason::Forbidden, message).with_hint(
        "of two machines with one state folder one has to go: let it leave with --force and join again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_says_what_to_do() {
        let told = |error: ApiError| format!("{}\nhint: {}", error.message, error.hint.unwrap_or_default());
        let node = NodeId::from_bits(7);
        let leave = "hint: let it leave with `coracle swarm leave` and join again";
        assert_eq!(
            told(wrong_token()),
            "the join token is not valid (any more)\nhint: get the present one on a manager with `coracle swarm join-token worker`, \
             or manager"
        );
        assert_eq!(
            told(too_many([10, 0, 0, 1].into())),
            "too many machines try to join or to come back from 10.0.0.1, or altogether\nhint: try again in a moment"
        );
        assert_eq!(
            told(no_state()),
            "this manager has not received the cluster's state yet\nhint: try again in a moment, or name another manager"
        );
        assert_eq!(told(removed(node)), format!("node {node} was removed from this cluster\n{leave}"));
        assert_eq!(told(no_member(node)), format!("node {node} is not a member (any more)\n{leave}"));
        assert_eq!(
            told(is_here(node)),
            format!(
                "node {node} is connected with a newer certificate than the one presented\nhint: of two machines with one state \
             folder one has to go: let it leave with --force and join again"
            )
        );
    }
}
