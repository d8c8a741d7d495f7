//! How this node becomes a member, and stays one.
//!
//! Joining shows the token's secret only to a server that the root in the token has signed: the root is fetched over
//! a connection that proves nothing, compared with the digest in the token, and every later connection is verified
//! with it. Renewing goes over mutual TLS and takes whatever role the managers want the node to have by then.

use std::sync::Arc;
use std::time::Duration;

use coracle_daemon::{Backoff, BackoffPolicy, Clock, ErrorChain};
use coracle_model::node::{Availability, NodeDescription};
use coracle_model::role::Role;
use coracle_pki::bundle::BundleError;
use coracle_pki::csr::{RequestError, request_certificate};
use coracle_pki::key::{KeyError, PrivateKey};
use coracle_pki::renewal::renewal_time;
use coracle_pki::root::{RootCertificate, RootError};
use coracle_pki::tls::{
    ExpectedServer, TlsError, client_config, fetch_root_unverified, joining_client_config,
};
use coracle_pki::token::TokenError;
use coracle_pki::{CertificateDer, JoinToken, NodeIdentity, SwappableIdentity};
use coracle_proto::v1;
use coracle_proto::v1::certificate_authority_client::CertificateAuthorityClient;
use coracle_rpc::connect::{ConnectError, channel};
use rustls::ClientConfig;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tracing::{info, warn};

use crate::agent::NodeUpdate;

/// Longest wait for an answer; an issued certificate is in the managers' store before they answer.
const ANSWER: Duration = Duration::from_secs(15);
/// Waits between tries to renew.
const RETRY: BackoffPolicy =
    BackoffPolicy { first: Duration::from_millis(500), max: Duration::from_secs(60) };
/// Longest sleep until the time is looked at again: somebody may have set the clock.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);

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

/// Where a renewed identity is kept, so that the next start begins with it.
#[tonic::async_trait]
pub trait KeepIdentity: Send + Sync + 'static {
    /// Writes it durably.
    ///
    /// # Errors
    /// If it could not be written: the old one stays in use, and is renewed again later.
    async fn keep(&self, identity: &NodeIdentity) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;
}

/// Keeps the identity valid and its role as the managers want it, until `stop`: renews it at a random point of its
/// life and whenever another role is wanted, has it kept, and swaps it while connections go on.
pub async fn keep_renewed(
    identity: SwappableIdentity,
    managers: watch::Receiver<Vec<String>>,
    mut wanted: watch::Receiver<Option<NodeUpdate>>,
    keeper: Arc<dyn KeepIdentity>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    let mut backoff = Backoff::new(RETRY);
    let mut due = due_time(&identity);
    loop {
        let other_role =
            wanted_role(&wanted).is_some_and(|role| role != identity.current().identity().role());
        let wait = if backoff.failures() > 0 {
            backoff.next_delay(rand::random())
        } else if other_role {
            Duration::ZERO
        } else {
            due.saturating_sub(Duration::from_nanos(clock.now())).min(LOOK_AGAIN)
        };
        tokio::select! {
            () = stop.cancelled() => return,
            changed = wanted.changed() => {
                if changed.is_err() {
                    return;
                }
                continue;
            }
            () = tokio::time::sleep(wait) => {}
        }
        let due_now = Duration::from_nanos(clock.now()) >= due;
        if !due_now && !other_role {
            continue;
        }
        let asked = managers.borrow().clone();
        match renew_and_keep(&identity, &asked, keeper.as_ref()).await {
            Ok(role) => {
                info!(%role, "certificate renewed");
                due = due_time(&identity);
                // A manager that does not know yet of a role that another one announced: not in a tight loop.
                backoff.reset();
                if wanted_role(&wanted).is_some_and(|wanted| wanted != role) {
                    backoff.next_delay(0);
                }
            }
            Err(error) => {
                warn!(%error, tries = backoff.failures() + 1, "certificate was not renewed");
                if backoff.failures() == 0 {
                    backoff.next_delay(0);
                }
            }
        }
    }
}

fn wanted_role(wanted: &watch::Receiver<Option<NodeUpdate>>) -> Option<Role> {
    wanted.borrow().map(|update| update.role)
}

/// Since 1970.
fn due_time(identity: &SwappableIdentity) -> Duration {
    let current = identity.current();
    Duration::from_secs(renewal_time(current.identity().peer(), rand::random()).as_secs())
}

async fn renew_and_keep(
    identity: &SwappableIdentity,
    managers: &[String],
    keeper: &dyn KeepIdentity,
) -> Result<Role, String> {
    let renewed = renew(identity, managers).await.map_err(|error| ErrorChain(&error).to_string())?;
    keeper.keep(&renewed.0).await.map_err(|error| format!("identity was not kept: {error}"))?;
    let role = renewed.0.role();
    identity.replace(renewed.0).map_err(|error| ErrorChain(&error).to_string())?;
    Ok(role)
}
