//! A new cluster: its root, its tokens, and the certificate of its first manager.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use coracle_model::cluster::{Cluster, ClusterSpec, Secret};
use coracle_model::id::{ClusterId, NodeId};
use coracle_model::node::{Availability, Node, NodeDescription, NodeSpec, NodeState, NodeStatus};
use coracle_model::role::Role;
use coracle_model::time::Timestamp;
use coracle_model::version::Version;
use coracle_pki::Subject;
use coracle_pki::csr::{CertificateRequest, request_certificate};
use coracle_pki::issue::{Authority, Grant, MIN_VALIDITY};
use coracle_pki::key::PrivateKey;
use coracle_pki::root::RootKey;
use coracle_pki::ticket::TicketKey;
use coracle_pki::token::{JoinToken, TokenSecrets};
use coracle_pki::{NodeIdentity, UnixTime};

/// Everything that a new cluster begins with.
#[derive(Debug)]
pub(super) struct NewCluster {
    pub(super) cluster: Cluster,
    pub(super) node: Node,
    pub(super) identity: NodeIdentity,
    pub(super) worker_token: JoinToken,
    pub(super) manager_token: JoinToken,
}

/// Makes a new cluster.
///
/// # Errors
/// If the system has no randomness.
pub(super) fn new_cluster(
    description: NodeDescription,
    address: SocketAddr,
    availability: Availability,
    certificate_life: Option<Duration>,
    now: Timestamp,
) -> anyhow::Result<NewCluster> {
    let (cluster_id, node_id) = (ClusterId::from_bits(rand::random()), NodeId::from_bits(rand::random()));
    let unix = UnixTime::since_unix_epoch(Duration::from_nanos(now.as_nanos()));
    let mut spec = ClusterSpec::default();
    spec.certificate_validity = certificate_life.unwrap_or(spec.certificate_validity);
    let root_key = RootKey::generate().context("making the root key")?;
    let root = root_key.certify(cluster_id, unix).context("making the root certificate")?;
    let root_key_pem = root_key.to_pem().context("encoding the root key")?.to_vec();
    let authority = Authority::new(root.clone(), root_key).context("joining root and key")?;
    let authority = authority.with_least_validity(spec.certificate_validity.min(MIN_VALIDITY));
    let key = PrivateKey::generate().context("making the node's key")?;
    let request = request_certificate(&key).context("asking for the node's certificate")?;
    let request =
        CertificateRequest::from_der(&request).context("reading the request for the node's certificate")?;
    let grant = Grant { subject: Subject::Manager(node_id), validity: spec.certificate_validity, now: unix };
    let certificate = authority.issue(&request, &grant).context("issuing the node's certificate")?;
    let tokens = TokenSecrets::generate().context("making join tokens")?;
    let ticket_key = TicketKey::generate().context("making the key of image tickets")?;
    let ticket_seed = ticket_key.expose_seed().context("encoding the key of image tickets")?.to_vec();
    let cluster = Cluster {
        id: cluster_id,
        version: Version::default(),
        created_at: now,
        feature_level: 1,
        root_certificate: root.to_pem(),
        root_key: Secret::new(root_key_pem),
        worker_token: Secret::new(tokens.worker.expose().to_vec()),
        manager_token: Secret::new(tokens.manager.expose().to_vec()),
        ticket_key: Secret::new(ticket_seed),
        next_raft_id: 1,
        spec,
    };
    let status = NodeStatus {
        state: NodeState::Unknown,
        since: now,
        message: "not heard yet".to_owned(),
        address: address.to_string(),
    };
    let spec = NodeSpec { role: Role::Manager, availability, labels: BTreeMap::new() };
    let node = Node {
        id: node_id,
        version: Version::default(),
        created_at: now,
        spec,
        description,
        status,
        manager: None,
    };
    let digest = root.digest();
    Ok(NewCluster {
        cluster,
        node,
        identity: NodeIdentity::new(vec![certificate], key, root).context("joining certificate and key")?,
        worker_token: JoinToken::new(digest, tokens.worker),
        manager_token: JoinToken::new(digest, tokens.manager),
    })
}
