//! The cluster itself: join tokens, operators' certificates, the control loops.

use std::sync::Arc;
use std::time::Duration;

use coracle_manager_core::Change;
use coracle_manager_core::state::State;
use coracle_model::cluster::{Cluster, Secret};
use coracle_model::role::Role;
use coracle_pki::csr::CertificateRequest;
use coracle_pki::issue::Grant;
use coracle_pki::token::{JoinToken, TokenSecret};
use coracle_pki::{OperatorName, Subject};
use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1;
use coracle_proto::v1::swarm_server::Swarm;
use prost::bytes::Bytes;
use rustls::pki_types::UnixTime;
use tonic::{Request, Response, Status};

use super::actor;
use crate::ca::{authority, token_secrets};
use crate::dispatcher::session::manager_addresses;
use crate::reconcile::LoopTable;
use crate::store::{Decision, Store, Write, now};

/// The API over the cluster.
#[derive(Debug, Clone)]
pub struct SwarmApi {
    store: Store,
    loops: LoopTable,
}

impl SwarmApi {
    /// The API over this state.
    #[must_use]
    pub const fn new(store: Store, loops: LoopTable) -> Self {
        Self { store, loops }
    }

    async fn cluster(&self) -> Result<Arc<Cluster>, ApiError> {
        self.cluster_at().await.map(|(cluster, _)| cluster)
    }

    /// The cluster and the index of the state that it was read from.
    async fn cluster_at(&self) -> Result<(Arc<Cluster>, u64), ApiError> {
        let view = self.store.barrier().await?;
        Ok((present(&view)?, view.index()))
    }

    /// Draws a new secret for this role's token; gives the cluster with it.
    async fn rotate(&self, actor: String, role: Role) -> Result<Arc<Cluster>, ApiError> {
        let secret =
            TokenSecret::generate().map_err(|error| ApiError::new(Reason::Internal, error.to_string()))?;
        let decided = self.store.decide(|view| {
            let cluster = present(view)?;
            let mut next = Cluster::clone(&cluster);
            let token = if role == Role::Manager { &mut next.manager_token } else { &mut next.worker_token };
            *token = Secret::new(secret.expose().to_vec());
            let write = Write {
                changes: vec![Change::UpdateCluster { expected: cluster.version, cluster: next }],
                actor: actor.clone(),
                reason: "join token rotated",
                idempotency: None,
                term: 0,
            };
            Ok(Decision::Write(write, ()))
        });
        decided.await?;
        present(&self.store.view())
    }
}

fn present(state: &State) -> Result<Arc<Cluster>, ApiError> {
    state.cluster().cloned().ok_or_else(|| {
        ApiError::new(Reason::Unavailable, "this manager has not received the cluster's state yet")
            .with_hint("try again in a moment")
    })
}

fn certificate_request(der: &[u8]) -> Result<CertificateRequest, ApiError> {
    CertificateRequest::from_der(der)
        .map_err(|error| ApiError::new(Reason::Invalid, format!("certificate request: {error}")))
}

#[tonic::async_trait]
impl Swarm for SwarmApi {
    async fn get_join_token(
        &self,
        request: Request<v1::GetJoinTokenRequest>,
    ) -> Result<Response<v1::GetJoinTokenResponse>, Status> {
        let actor = actor(&request);
        let request = request.into_inner();
        let role = Role::try_from(request.role()).map_err(ApiError::from)?;
        let cluster = if request.rotate { self.rotate(actor, role).await? } else { self.cluster().await? };
        let secrets = token_secrets(&cluster)?;
        let secret = if role == Role::Manager { secrets.manager } else { secrets.worker };
        let token = JoinToken::new(authority(&cluster)?.root().digest(), secret);
        let addresses = manager_addresses(&self.store.view());
        let (token, version) = (token.expose().to_string(), cluster.version.index());
        Ok(Response::new(v1::GetJoinTokenResponse { token, addresses, version }))
    }

    async fn issue_operator_certificate(
        &self,
        request: Request<v1::IssueOperatorCertificateRequest>,
    ) -> Result<Response<v1::IssueOperatorCertificateResponse>, Status> {
        let actor = actor(&request);
        let request = request.into_inner();
        let cluster = self.cluster().await?;
        let name: OperatorName =
            request.name.parse().map_err(|error| ApiError::new(Reason::Invalid, format!("name: {error}")))?;
        let csr = certificate_request(&request.csr_der)?;
        let validity = match request.validity {
            0 => cluster.spec.certificate_validity,
            nanos => Duration::from_nanos(nanos),
        };
        let now = UnixTime::since_unix_epoch(Duration::from_nanos(now().as_nanos()));
        let authority = authority(&cluster)?;
        let certificate = authority
            .issue(&csr, &Grant { subject: Subject::Operator(name.clone()), validity, now })
            .map_err(|error| ApiError::new(Reason::Invalid, format!("validity: {error}")))?;
        tracing::info!(operator = %name, by = actor, "operator certificate issued");
        Ok(Response::new(v1::IssueOperatorCertificateResponse {
            certificate_der: Bytes::copy_from_slice(&certificate),
            root_certificate_der: Bytes::copy_from_slice(authority.root().der()),
            managers: manager_addresses(&self.store.view()),
        }))
    }

    async fn get_cluster(
        &self,
        _: Request<v1::GetClusterRequest>,
    ) -> Result<Response<v1::GetClusterResponse>, Status> {
        let (cluster, index) = self.cluster_at().await?;
        Ok(Response::new(v1::GetClusterResponse {
            id: cluster.id.to_string(),
            created_at: cluster.created_at.as_nanos(),
            spec: Some((&cluster.spec).into()),
            root_certificate: cluster.root_certificate.clone(),
            version: cluster.version.index(),
            index,
        }))
    }

    async fn update_cluster(
        &self,
        request: Request<v1::UpdateClusterRequest>,
    ) -> Result<Response<v1::UpdateClusterResponse>, Status> {
        let actor = actor(&request);
        let request = request.into_inner();
        let decided = self.store.decide(|view| {
            let cluster = present(view)?;
            let mut next = Cluster::clone(&cluster);
            next.spec.allow_privileged = request.allow_privileged.unwrap_or(next.spec.allow_privileged);
            let write = Write {
                changes: vec![Change::UpdateCluster { expected: cluster.version, cluster: next }],
                actor: actor.clone(),
                reason: "swarm update",
                idempotency: None,
                term: 0,
            };
            Ok(Decision::Write(write, ()))
        });
        decided.await?;
        let cluster = present(&self.store.view())?;
        let (spec, version) = (Some((&cluster.spec).into()), cluster.version.index());
        Ok(Response::new(v1::UpdateClusterResponse { spec, version }))
    }

    async fn list_loops(
        &self,
        _: Request<v1::ListLoopsRequest>,
    ) -> Result<Response<v1::ListLoopsResponse>, Status> {
        let row = |(name, status): (&'static str, crate::reconcile::LoopStatus)| v1::LoopStatus {
            name: name.to_owned(),
            runs: status.runs,
            changes: status.changes,
            refused: status.refused,
            last_run: status.last_run.as_nanos(),
            queued: 0,
        };
        Ok(Response::new(v1::ListLoopsResponse { loops: self.loops.rows().into_iter().map(row).collect() }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::world::told;
    use super::*;

    #[test]
    fn refusals_say_what_is_wrong() {
        assert_eq!(
            told(present(&State::default())),
            "this manager has not received the cluster's state yet\nhint: try again in a moment"
        );
        assert!(told(certificate_request(b"no request")).starts_with("certificate request: "));
    }
}
