//! A new certificate for a node whose old one is over, for a proof by the old key while the node is a member; and one that a manager
//! gives itself when there is nobody left to give it one.

use std::net::IpAddr;
use std::time::Duration;

use coracle_manager_core::state::View;
use coracle_model::id::NodeId;
use coracle_pki::csr::CertificateRequest;
use coracle_pki::issue::{Grant, MIN_VALIDITY};
use coracle_pki::recovery::{Claim, RecoveryError};
use coracle_pki::root::RootCertificate;
use coracle_pki::{CertificateDer, PeerIdentity, Subject};
use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1;
use prost::bytes::Bytes;
use tracing::{info, warn};

use super::{CaApi, authority, refusal, unix_time};
use crate::store::now;

impl CaApi {
    pub(super) fn give_challenge(&self, peer: Option<IpAddr>) -> Result<v1::ChallengeResponse, ApiError> {
        self.admit(peer)?;
        let now = now();
        let challenge = self.challenger()?.challenge(unix_time(now)).map_err(|error| refused(&error))?;
        Ok(v1::ChallengeResponse { challenge: challenge.into(), time: now.as_nanos() })
    }

    pub(super) async fn recover_node(
        &self,
        request: v1::RecoverRequest,
        peer: Option<IpAddr>,
    ) -> Result<v1::IssueResponse, ApiError> {
        self.admit(peer)?;
        // Not from a stale state: a leader that was cut off must not take back what was removed.
        let view = self.store.barrier().await?;
        let holder = self.holder(&view, &request).inspect_err(|error| {
            warn!(?peer, %error, "somebody asked for a new certificate with a bad proof");
        })?;
        let node = holder.node().ok_or_else(|| refused(&RecoveryError::NotANode))?;
        let over_for = now().as_secs().saturating_sub(holder.not_after().as_secs());
        self.judge(&view, node, &holder).inspect_err(|error| {
            warn!(%node, ?peer, over_for, %error, "a node with a certificate that is over was refused");
        })?;
        let answer = Self::certify(&view, node, &request.csr_der)?;
        info!(
            %node,
            ?peer,
            over_for,
            old_role = %holder.role(),
            old_serial = %holder.serial(),
            "a node whose certificate was over has proved its key and got a new one"
        );
        Ok(answer)
    }

    /// Whose certificate it is, if the proof is by its key.
    fn holder(&self, view: &View, request: &v1::RecoverRequest) -> Result<PeerIdentity, ApiError> {
        let cluster = Self::cluster(view)?;
        let root = RootCertificate::from_pem(cluster.root_certificate.as_bytes()).map_err(|error| {
            ApiError::new(Reason::Internal, format!("the root of the cluster cannot be read: {error}"))
        })?;
        let claim = Claim {
            challenge: &request.challenge,
            certificate: &request.certificate_der,
            request: &request.csr_der,
        };
        let verified = self.challenger()?.verify(&root, &claim, &request.proof, unix_time(now()));
        verified.map_err(|error| refused(&error))
    }

    /// Whether this holder of a certificate is to have a new one.
    fn judge(&self, view: &View, node: NodeId, holder: &PeerIdentity) -> Result<(), ApiError> {
        if view.node(node).is_none() {
            // Ids are never given twice, and the state is that of a majority: what it does not know is gone.
            return Err(refusal::removed(node));
        }
        // A copy of a disk from long ago has a key that was good once. While the node itself is here, with a certificate that is
        // newer, it is not the one who asks.
        let present =
            self.dispatcher.term().and_then(|term| term.registry.get(node)).and_then(|c| c.certified);
        if present.is_some_and(|issued| issued > holder.issued_at()) {
            return Err(refusal::is_here(node));
        }
        Ok(())
    }
}

fn refused(error: &RecoveryError) -> ApiError {
    let reason = match error {
        RecoveryError::Cryptography => Reason::Internal,
        // Leadership may have changed in between, or the answer was slow: the node asks for another.
        RecoveryError::Unknown | RecoveryError::Late { .. } | RecoveryError::Replayed => Reason::Stale,
        _ => Reason::Unauthenticated,
    };
    ApiError::new(reason, error.to_string())
}

/// A certificate that a manager gives itself because its own is over and no manager that could give it one answers: after an outage
/// of all of them nobody else could begin. It can, since the root's key is in the state that every manager has; it says that it was
/// issued when the old one was, so that a manager which was removed meanwhile is found to be that by the others, and it is good for
/// an hour at most, within which the leader gives a real one.
///
/// Nothing if this state does not know the node as a manager.
///
/// # Errors
/// If the request or the root cannot be used.
pub fn certify_self(
    view: &View,
    present: &PeerIdentity,
    csr: &[u8],
) -> Result<Option<CertificateDer<'static>>, ApiError> {
    let (Some(cluster), Some(node)) = (view.cluster(), present.node()) else { return Ok(None) };
    if cluster.id != present.cluster() || view.node(node).is_none_or(|known| known.manager.is_none()) {
        return Ok(None);
    }
    let request = CertificateRequest::from_der(csr)
        .map_err(|error| ApiError::new(Reason::Invalid, format!("certificate request: {error}")))?;
    let validity: Duration = MIN_VALIDITY.min(cluster.spec.certificate_validity);
    let grant = Grant { subject: Subject::Manager(node), validity, now: unix_time(now()) };
    let issued = authority(cluster)?.issue_as_of(&request, &grant, present.issued_at());
    let certificate = issued.map_err(|error| {
        ApiError::new(Reason::Internal, format!("cannot issue a certificate to this manager itself: {error}"))
    })?;
    warn!(
        %node,
        valid_for = validity.as_secs(),
        "this manager's certificate was over and nobody could give it another: it has given itself one, to be replaced by the leader"
    );
    Ok(Some(certificate))
}

impl CaApi {
    /// A certificate with the role that the managers want the node to have now.
    pub(super) fn certify(view: &View, node: NodeId, csr: &[u8]) -> Result<v1::IssueResponse, ApiError> {
        use coracle_model::role::Role;

        let cluster = Self::cluster(view)?;
        let known = view.node(node).ok_or_else(|| refusal::no_member(node))?;
        // A manager that is to become a worker leaves Raft first.
        let role = if known.manager.is_some() { Role::Manager } else { known.spec.role };
        let subject = Subject::node_with_role(node, role)
            .ok_or_else(|| ApiError::new(Reason::Internal, "a node with no node's role".to_owned()))?;
        let (certificate_der, root_certificate_der): (Bytes, Bytes) = Self::sign(&cluster, csr, subject)?;
        Ok(v1::IssueResponse {
            node_id: node.to_string(),
            cluster_id: cluster.id.to_string(),
            role: v1::NodeRole::from(role).into(),
            certificate_der,
            root_certificate_der,
            managers: crate::dispatcher::session::manager_addresses(view),
        })
    }
}
