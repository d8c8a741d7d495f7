//! Nodes whose certificates are over: who gets another, and who does not.

use std::time::Duration;

use coracle_manager_core::Change;
use coracle_model::id::NodeId;
use coracle_model::node::NodeSpec;
use coracle_model::role::Role;
use coracle_pki::csr::request_certificate;
use coracle_pki::key::PrivateKey;
use coracle_pki::recovery::{Claim, prove};
use coracle_pki::{PeerIdentity, Subject, UnixTime};
use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1;
use coracle_proto::v1::certificate_authority_client::CertificateAuthorityClient;

use crate::world::{Answer, Credentials, World, call, certificate, other_authority, unix_now};

/// Certificates are good for thirty days.
fn days_ago(days: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(unix_now().as_secs() - days * 86_400))
}

fn client(world: &World) -> CertificateAuthorityClient<tonic::transport::Channel> {
    CertificateAuthorityClient::new(world.channel(None))
}

/// A complete request of the holder of `old`.
async fn request(world: &World, old: &Credentials) -> v1::RecoverRequest {
    let challenge = client(world).challenge(v1::ChallengeRequest {}).await.unwrap().into_inner().challenge;
    let csr = request_certificate(&PrivateKey::generate().unwrap()).unwrap();
    let claim = Claim { challenge: &challenge, certificate: &old.chain[0], request: &csr };
    let proof = prove(&old.key, &claim).unwrap().into();
    let certificate_der = old.chain[0].to_vec().into();
    v1::RecoverRequest { challenge, certificate_der, csr_der: csr.to_vec().into(), proof }
}

async fn send(world: &World, request: v1::RecoverRequest) -> Result<PeerIdentity, ApiError> {
    let answer = client(world).recover(request).await.map_err(|status| ApiError::from_status(&status))?;
    let answer = answer.into_inner();
    assert_eq!(&answer.root_certificate_der[..], &world.authority.root().der()[..]);
    Ok(PeerIdentity::from_verified(&answer.certificate_der).unwrap())
}

async fn recover(world: &World, old: &Credentials) -> Result<PeerIdentity, ApiError> {
    send(world, request(world, old).await).await
}

async fn set_role(world: &World, node: NodeId, role: Role) {
    let known = world.store.view().node(node).cloned().unwrap();
    let spec = NodeSpec { role, ..known.spec.clone() };
    world.write(vec![Change::UpdateNodeSpec { node, expected: known.version, spec }]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_comes_back_with_the_role_that_the_managers_want() {
    let world = World::new().await;
    let worker = world.add_node("w1", Role::Worker, None).await;
    let old = certificate(&world.authority, Subject::Worker(worker), days_ago(90));
    // No handshake accepts it, for whatever call.
    let path = "/coracle.v1.CertificateAuthority/Challenge";
    assert_eq!(call(&world.channel(Some(&old)), path).await, Answer::NoConnection);
    let new = recover(&world, &old).await.unwrap();
    assert_eq!(new.subject(), &Subject::Worker(worker));
    assert!(new.not_after() > unix_now());

    // Promoted meanwhile; and demoted: what the old certificate says does not count.
    set_role(&world, worker, Role::Manager).await;
    assert_eq!(recover(&world, &old).await.unwrap().subject(), &Subject::Manager(worker));
    let manager = world.add_node("m2", Role::Manager, None).await;
    let old = certificate(&world.authority, Subject::Manager(manager), days_ago(90));
    set_role(&world, manager, Role::Worker).await;
    assert_eq!(recover(&world, &old).await.unwrap().subject(), &Subject::Worker(manager));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_else_gets_a_certificate() {
    let world = World::new().await;
    let worker = world.add_node("w1", Role::Worker, None).await;
    let old = certificate(&world.authority, Subject::Worker(worker), days_ago(90));

    let good = request(&world, &old).await;
    send(&world, good.clone()).await.unwrap();
    assert_eq!(send(&world, good).await.unwrap_err().reason, Reason::Stale, "a proof is good once");

    let other = Credentials { chain: old.chain.clone(), key: PrivateKey::generate().unwrap() };
    assert_eq!(recover(&world, &other).await.unwrap_err().reason, Reason::Unauthenticated, "another key");

    let mut swapped = request(&world, &old).await;
    let own = PrivateKey::generate().unwrap();
    swapped.csr_der = request_certificate(&own).unwrap().to_vec().into();
    assert_eq!(send(&world, swapped).await.unwrap_err().reason, Reason::Unauthenticated, "another request");

    let mut invented = request(&world, &old).await;
    invented.challenge = vec![7; invented.challenge.len()].into();
    assert_eq!(send(&world, invented).await.unwrap_err().reason, Reason::Stale, "another challenge");

    let foreign = certificate(&other_authority(world.cluster), Subject::Worker(worker), days_ago(90));
    assert_eq!(recover(&world, &foreign).await.unwrap_err().reason, Reason::Unauthenticated, "another root");
    let cluster = coracle_model::id::ClusterId::from_bits(7);
    let foreign = certificate(&other_authority(cluster), Subject::Worker(worker), days_ago(90));
    assert_eq!(
        recover(&world, &foreign).await.unwrap_err().reason,
        Reason::Unauthenticated,
        "another cluster"
    );
    let operator = certificate(&world.authority, Subject::Operator("ann".parse().unwrap()), days_ago(90));
    assert_eq!(recover(&world, &operator).await.unwrap_err().reason, Reason::Unauthenticated, "an operator");

    let expected = world.store.view().node(worker).unwrap().version;
    world.write(vec![Change::RemoveNode { node: worker, expected }]).await;
    assert_eq!(recover(&world, &old).await.unwrap_err().reason, Reason::Removed, "it is told what it is");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_an_old_key_is_of_no_use_while_the_node_itself_is_here() {
    let world = World::new().await;
    let agent = crate::worker::Agent::connected(&world, "w1").await;
    let old = certificate(&world.authority, Subject::Worker(agent.node), days_ago(90));
    let error = recover(&world, &old).await.unwrap_err();
    assert_eq!(error.reason, Reason::Forbidden, "{error}");
    drop(agent);
}
