//! How this node becomes a member, and stays one.
//!
//! Joining shows the token's secret only to a server that the root in the token has signed: the root is fetched over
//! a connection that proves nothing, compared with the digest in the token, and every later connection is verified
//! with it. Renewing goes over mutual TLS and takes whatever role the managers want the node to have by then. A node
//! that was off until its certificate was over comes back by [`recover()`]; [`keep`] does each when it is due.

mod keep;
mod recover;

use std::sync::Arc;
use std::time::Duration;

use coracle_model::node::{Availability, NodeDescription};
use coracle_model::time::Timestamp;
use coracle_pki::bundle::BundleError;
use coracle_pki::csr::{RequestError, request_certificate};
use coracle_pki::key::{KeyError, PrivateKey};
use coracle_pki::recovery::RecoveryError;
use coracle_pki::root::{RootCertificate, RootError};
use coracle_pki::tls::{
    ExpectedServer, TlsError, client_config, fetch_root_unverified, joining_client_config,
};
use coracle_pki::token::TokenError;
use coracle_pki::{CertificateDer, JoinToken, NodeIdentity, SwappableIdentity};
use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1;
use coracle_proto::v1::certificate_authority_client::CertificateAuthorityClient;
use coracle_rpc::connect::{ConnectError, channel};
use rustls::ClientConfig;
use tokio::time::timeout;
use tonic::transport::Channel;

pub use keep::{KeepIdentity, keep_renewed};
pub use recover::recover;

/// Longest wait for an answer; an issued certificate is in the managers' store before they answer.
const ANSWER: Duration = Duration::from_secs(15);
/// Why there is no new identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The manager cannot be reached, or is none of the cluster that the token is for.
    #[error("cannot reach a manager")]
    Connect(#[from] ConnectError),
    /// It does not answer.
    #[error("manager {address} did not answer within {} s: see whether it has a leader", ANSWER.as_secs())]
    Silent {
        /// `IP:PORT`
        address: String,
    },
    /// It says no.
    #[error("manager {address} refuses: {}", .status.message())]
    Refused {
        /// `IP:PORT`
        address: String,
        /// Its answer.
        #[source]
        status: Box<tonic::Status>,
    },
    /// The token is for another cluster, or somebody is in between. Nothing secret was sent.
    #[error("manager {address} is not one of the cluster that the join token is for")]
    Token {
        /// `IP:PORT`
        address: String,
        /// Why.
        #[source]
        source: TokenError,
    },
    /// No TLS configuration.
    #[error("cannot prepare the connection to a manager")]
    Tls(#[from] TlsError),
    /// No key.
    #[error("cannot make a key")]
    Key(#[from] KeyError),
    /// No request.
    #[error("cannot make a certificate request")]
    Request(#[from] RequestError),
    /// The manager's answer holds no root.
    #[error("manager's answer holds no usable root certificate")]
    Root(#[from] RootError),
    /// The manager's answer is of no use.
    #[error("manager's answer is no usable identity")]
    Identity(#[from] BundleError),
    /// The root in the answer is another than the one that is trusted.
    #[error("manager's answer is signed by another root than the one this node trusts")]
    OtherRoot,
    /// Nobody to ask.
    #[error("no manager of the cluster is known")]
    NoManagers,
    /// No proof of the old key.
    #[error("cannot prove the key of the certificate that is over")]
    Proof(#[from] RecoveryError),
    /// The manager gives what is of no use by this machine's clock.
    #[error(
        "this machine's clock says {}, that of manager {address} says {}, and the certificate that it gave is good until {}: set the clock of this machine, if that is the wrong one",
        utc(*.here), utc(*.there), utc(*.until)
    )]
    Clock {
        /// `IP:PORT`
        address: String,
        /// The time here.
        here: Timestamp,
        /// The time there.
        there: Timestamp,
        /// The end of the certificate.
        until: Timestamp,
    },
}

/// A time as operators read it.
pub(crate) fn utc(time: Timestamp) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds)
        .map_or_else(|_| "the far future".to_owned(), |time| time.to_string())
}

impl IdentityError {
    /// Whether a manager that proved to be one has looked at this node and says no, so that asking others is of no use.
    #[must_use]
    pub fn is_verdict(&self) -> bool {
        matches!(
            self.refusal(),
            Some(Reason::Removed | Reason::Unauthenticated | Reason::Forbidden | Reason::Invalid)
        )
    }

    /// Whether the cluster says that this node was removed.
    #[must_use]
    pub fn is_removal(&self) -> bool {
        self.refusal() == Some(Reason::Removed)
    }

    fn refusal(&self) -> Option<Reason> {
        match self {
            Self::Refused { status, .. } => Some(ApiError::from_status(status).reason),
            _ => None,
        }
    }
}

/// What a node brings with it when it joins.
#[derive(Debug, Clone)]
pub struct Joiner {
    /// What it says of itself.
    pub description: NodeDescription,
    /// `IP:PORT` at which other nodes reach it.
    pub address: String,
    /// Whether it shall get tasks.
    pub availability: Availability,
}

/// Joins the cluster of `token` through the manager at `remote`, `IP:PORT`: returns who this node is now, and where
/// the managers are.
///
/// # Errors
/// If no manager of that cluster is there, or it refuses. The token's secret has left this node only if the manager
/// proved to be of the cluster that the token names.
pub async fn join(
    remote: &str,
    token: &JoinToken,
    joiner: &Joiner,
) -> Result<(NodeIdentity, Vec<String>), IdentityError> {
    let root = fetch_root(remote, token).await?;
    let mut client = connect(remote, joining_client_config(&root)?).await?;
    let key = PrivateKey::generate()?;
    let csr = request_certificate(&key)?;
    let request = v1::IssueRequest {
        csr_der: csr.to_vec().into(),
        token_secret: token.secret().expose().to_vec().into(),
        description: Some((&joiner.description).into()),
        address: joiner.address.clone(),
        availability: v1::Availability::from(joiner.availability).into(),
    };
    let issued = answer(remote, client.issue(request)).await?;
    let managers = issued.managers.clone();
    Ok((identity(issued, key, &root)?, managers))
}

/// The root of the cluster that the token names, from a server that may be anybody.
async fn fetch_root(remote: &str, token: &JoinToken) -> Result<RootCertificate, IdentityError> {
    let mut client = connect(remote, fetch_root_unverified()?).await?;
    let presented = answer(remote, client.get_root(v1::GetRootRequest {})).await?.root_certificate_der;
    token
        .verify_root_digest(&presented)
        .map_err(|source| IdentityError::Token { address: remote.to_owned(), source })
}

/// Asks the managers, one after the other, for a new certificate with the role that they want this node to have.
///
/// # Errors
/// The last manager's, if none gives one.
pub async fn renew(
    identity: &SwappableIdentity,
    managers: &[String],
) -> Result<(NodeIdentity, Vec<String>), IdentityError> {
    let mut last = IdentityError::NoManagers;
    for address in managers {
        match renew_at(identity, address).await {
            Ok(renewed) => return Ok(renewed),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn renew_at(
    present: &SwappableIdentity,
    address: &str,
) -> Result<(NodeIdentity, Vec<String>), IdentityError> {
    let mut client = connect(address, client_config(present, ExpectedServer::AnyManager)?).await?;
    let key = PrivateKey::generate()?;
    let request = v1::RenewRequest { csr_der: request_certificate(&key)?.to_vec().into() };
    let issued = answer(address, client.renew(request)).await?;
    let managers = issued.managers.clone();
    let trusted = present.current().identity().root().clone();
    Ok((identity(issued, key, &trusted)?, managers))
}

fn identity(
    issued: v1::IssueResponse,
    key: PrivateKey,
    trusted: &RootCertificate,
) -> Result<NodeIdentity, IdentityError> {
    let root = RootCertificate::from_der(&issued.root_certificate_der)?;
    if root.digest() != trusted.digest() {
        return Err(IdentityError::OtherRoot);
    }
    Ok(NodeIdentity::new(vec![CertificateDer::from(issued.certificate_der.to_vec())], key, root)?)
}

async fn connect(
    address: &str,
    tls: ClientConfig,
) -> Result<CertificateAuthorityClient<Channel>, IdentityError> {
    Ok(CertificateAuthorityClient::new(channel(address, Arc::new(tls)).await?))
}

async fn answer<T>(
    address: &str,
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, IdentityError> {
    let address = address.to_owned();
    match timeout(ANSWER, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(IdentityError::Refused { address, status: Box::new(status) }),
        Err(_) => Err(IdentityError::Silent { address }),
    }
}
