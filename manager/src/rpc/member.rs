//! Whether a caller's certificate still stands for what it says: removal and demotion act at once, not when the
//! certificate ends.

use std::time::Duration;

use coracle_manager_core::state::State;
use coracle_model::id::NodeId;
use coracle_model::role::Role;
use coracle_pki::identity::PeerIdentity;
use coracle_proto::access;
use coracle_proto::status::{ApiError, Reason};
use coracle_rpc::caller::Caller;

/// Clocks of managers may differ by some minutes.
const CLOCKS_DIFFER_BY: Duration = Duration::from_secs(600);

const RAFT: &str = "/coracle.v1.RaftTransport/";

/// Checks a caller against the replicated node objects.
///
/// # Errors
/// If the node was removed, belongs to another cluster, or lost the role that the method needs.
pub fn check(
    state: &State,
    caller: &Caller,
    passed_on_by: Option<NodeId>,
    path: &str,
) -> Result<(), ApiError> {
    let Some(cluster) = state.cluster() else { return Ok(()) };
    if matches!(caller, Caller::Forwarded(_)) {
        vouched_for(state, passed_on_by)?;
    }
    if let Caller::Member(identity) = caller
        && identity.cluster() != cluster.id
    {
        return Err(ApiError::new(
            Reason::Unauthenticated,
            "the certificate is of another cluster".to_owned(),
        ));
    }
    let Some(node) = caller.node() else { return Ok(()) };
    if path.starts_with(RAFT) {
        return match caller {
            Caller::Member(identity) => raft(state, node, identity),
            _ => Err(gone(node)),
        };
    }
    let Some(known) = state.node(node) else {
        return Err(match caller {
            Caller::Member(identity) if newer(state, identity) => removed(node),
            // Ids are never given twice: what was applied is sure, however young the certificate.
            Caller::Member(_) if state.departed_at(node).is_some() => removed(node),
            _ => gone(node),
        });
    };
    // A node that is being demoted keeps a manager's certificate for a moment; what counts is what it should be.
    let counts_as = match known.spec.role {
        Role::Manager if caller.roles().contains(&access::Caller::Manager) => access::Caller::Manager,
        _ if known.manager.is_some() => access::Caller::Manager,
        _ => access::Caller::Worker,
    };
    if access::allows(path, &[counts_as]) || access::allows(path, &[access::Caller::Anyone]) {
        Ok(())
    } else {
        Err(ApiError::new(Reason::Forbidden, format!("node {node} is no longer a manager")))
    }
}

/// Whoever vouches for another caller must be a manager now: a certificate outlives a demotion.
fn vouched_for(state: &State, passed_on_by: Option<NodeId>) -> Result<(), ApiError> {
    let by = passed_on_by.and_then(|node| state.node(node));
    if by.is_some_and(|node| node.manager.is_some() || node.spec.role == Role::Manager) {
        return Ok(());
    }
    let who = passed_on_by.map_or_else(String::new, |node| format!(" {node}"));
    let message = format!("the node{who} that passed this call on is not a manager (any more)");
    Err(ApiError::new(Reason::Forbidden, message)
        .with_hint("run the command on a manager: `coracle node ls` there lists them"))
}

/// Raft itself must not be kept from a manager whose promotion this one has yet to learn of: a node is turned away only when this
/// state does not know it as a manager and either is newer than its certificate or knows that it lost its place since.
fn raft(state: &State, node: NodeId, identity: &PeerIdentity) -> Result<(), ApiError> {
    let manager =
        state.node(node).is_some_and(|node| node.spec.role == Role::Manager || node.manager.is_some());
    let lost = state.departed_at(node).is_some_and(|at| identity.issued_at().as_secs() <= at.as_secs());
    if manager || !(lost || newer(state, identity)) { Ok(()) } else { Err(gone(node)) }
}

/// Whether this state is newer than the certificate, so that a node which it does not know has not just joined.
fn newer(state: &State, identity: &PeerIdentity) -> bool {
    state.time().as_secs() >= identity.issued_at().as_secs() + CLOCKS_DIFFER_BY.as_secs()
}

/// What a node acts on by stopping what it runs: only said when it is sure.
fn removed(node: NodeId) -> ApiError {
    ApiError::new(Reason::Removed, format!("node {node} was removed from this cluster"))
}

fn gone(node: NodeId) -> ApiError {
    ApiError::new(Reason::Unauthenticated, format!("node {node} is not a member of this cluster (any more)"))
}

#[cfg(test)]
mod tests;
