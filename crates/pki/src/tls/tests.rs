//! Real handshakes, in memory.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use coracle_model::role::Role;
use rustls::client::danger::ServerCertVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use rustls_pki_types::CertificateDer;

use super::*;
use crate::bundle::NodeIdentity;
use crate::identity::PeerIdentity;
use crate::key::PrivateKey;
use crate::name::Subject;
use crate::testing::{World, node, now};
use crate::token::{JoinToken, TokenSecret};
use crate::x509;

/// Two ends of a connection, moved along by hand.
struct Pair {
    client: ClientConnection,
    server: ServerConnection,
}

#[derive(Debug)]
enum Refused {
    ByClient(rustls::Error),
    ByServer(rustls::Error),
}

impl Refused {
    fn text(&self) -> String {
        match self {
            Self::ByClient(error) => format!("client: {error:?}"),
            Self::ByServer(error) => format!("server: {error:?}"),
        }
    }
}

impl Pair {
    fn new(client: ClientConfig, server: &Arc<ServerConfig>) -> Self {
        Self {
            client: ClientConnection::new(Arc::new(client), server_name()).unwrap(),
            server: ServerConnection::new(Arc::clone(server)).unwrap(),
        }
    }

    /// Moves bytes until neither end has any for the other.
    fn settle(&mut self) -> Result<(), Refused> {
        loop {
            let mut moved = false;
            let mut bytes = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut bytes).unwrap();
            }
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                moved = true;
                self.server.read_tls(&mut rest).unwrap();
                self.server.process_new_packets().map_err(Refused::ByServer)?;
            }
            let mut bytes = Vec::new();
            while self.server.wants_write() {
                self.server.write_tls(&mut bytes).unwrap();
            }
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                moved = true;
                self.client.read_tls(&mut rest).unwrap();
                self.client.process_new_packets().map_err(Refused::ByClient)?;
            }
            if !moved {
                return Ok(());
            }
        }
    }

    fn handshake(mut self) -> Result<Self, Refused> {
        self.settle()?;
        assert!(!self.client.is_handshaking() && !self.server.is_handshaking());
        assert_eq!(self.client.alpn_protocol(), Some(ALPN));
        assert_eq!(self.client.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
        Ok(self)
    }

    fn client_seen_by_server(&self) -> Option<PeerIdentity> {
        let certificates = self.server.peer_certificates()?;
        Some(PeerIdentity::from_verified(&certificates[0]).unwrap())
    }

    fn server_seen_by_client(&self) -> PeerIdentity {
        PeerIdentity::from_verified(&self.client.peer_certificates().unwrap()[0]).unwrap()
    }

    /// Sends a text each way.
    fn talk(&mut self) {
        self.client.writer().write_all(b"to server").unwrap();
        self.server.writer().write_all(b"to client").unwrap();
        self.settle().unwrap();
        let mut text = [0; 9];
        self.server.reader().read_exact(&mut text).unwrap();
        assert_eq!(&text, b"to server");
        self.client.reader().read_exact(&mut text).unwrap();
        assert_eq!(&text, b"to client");
    }
}

fn handle(identity: NodeIdentity) -> SwappableIdentity {
    SwappableIdentity::new(identity).unwrap()
}

fn server(identity: NodeIdentity) -> Arc<ServerConfig> {
    Arc::new(server_config(&handle(identity)).unwrap())
}

fn connect(
    client: NodeIdentity,
    expected: ExpectedServer,
    server: &Arc<ServerConfig>,
) -> Result<Pair, Refused> {
    Pair::new(client_config(&handle(client), expected).unwrap(), server).handshake()
}

/// A client that trusts the world's managers but shows a certificate of its own making.
fn client_showing(world: &World, chain: Vec<CertificateDer<'static>>, key: &PrivateKey) -> ClientConfig {
    let honest = joining_client_config(&world.root).unwrap();
    let mut config = honest.clone();
    let certified = CertifiedKey::new(chain, key.to_rustls().unwrap());
    config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
    config
}

#[test]
fn members_know_each_other() {
    let world = World::new(1);
    let server = server(world.manager(10));
    for client in [world.worker(5), world.manager(6), world.operator("admin")] {
        let subject = client.subject().clone();
        let mut pair = connect(client, ExpectedServer::AnyManager, &server).unwrap();
        assert_eq!(pair.client_seen_by_server().unwrap().subject(), &subject);
        assert_eq!(pair.server_seen_by_client().subject(), &Subject::Manager(node(10)));
        pair.talk();
    }
}

#[test]
fn a_client_without_certificate_is_nobody() {
    let world = World::new(1);
    let server = server(world.manager(10));
    let pair = Pair::new(joining_client_config(&world.root).unwrap(), &server).handshake().unwrap();
    assert_eq!(pair.client_seen_by_server(), None);
}

#[test]
fn a_client_of_a_foreign_authority_is_refused() {
    let world = World::new(1);
    // The same cluster id, so that the names of both roots are equal.
    for foreign in [World::new(1), World::new(2)] {
        let identity = foreign.manager(6);
        let client = client_showing(&world, identity.chain().to_vec(), identity.key());
        let refused = Pair::new(client, &server(world.manager(10))).handshake().err().unwrap();
        assert!(matches!(refused, Refused::ByServer(_)), "{}", refused.text());
    }
}

#[test]
fn a_self_signed_client_is_refused() {
    let world = World::new(1);
    let key = PrivateKey::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = x509::distinguished_name(
        &node(6).to_string(),
        &world.root.cluster().to_string(),
        Some("coracle-manager"),
    );
    let certificate = params.self_signed(&key).unwrap();
    let client = client_showing(&world, vec![certificate.into()], &key);
    let refused = Pair::new(client, &server(world.manager(10))).handshake().err().unwrap();
    assert!(matches!(refused, Refused::ByServer(_)), "{}", refused.text());
}

#[test]
fn a_client_with_a_stolen_certificate_but_another_key_is_refused() {
    let world = World::new(1);
    let key = PrivateKey::generate().unwrap();
    let client = client_showing(&world, world.manager(6).chain().to_vec(), &key);
    let refused = Pair::new(client, &server(world.manager(10))).handshake().err().unwrap();
    assert!(matches!(refused, Refused::ByServer(_)), "{}", refused.text());
}

#[test]
fn expired_members_are_refused_by_both_sides() {
    let world = World::new(1);
    let long_ago = x509::earlier(now(), Duration::from_secs(31 * 86_400));
    let expired = || world.identity(Subject::Manager(node(6)), long_ago);
    assert!(expired().is_expired(now()));

    let refused = connect(expired(), ExpectedServer::AnyManager, &server(world.manager(10))).err().unwrap();
    assert!(matches!(refused, Refused::ByServer(_)), "{}", refused.text());
    assert!(refused.text().contains("Expired"), "{}", refused.text());

    let refused = connect(world.worker(5), ExpectedServer::AnyManager, &server(expired())).err().unwrap();
    assert!(matches!(refused, Refused::ByClient(_)), "{}", refused.text());
    assert!(refused.text().contains("Expired"), "{}", refused.text());
}

#[test]
fn certificates_that_the_authority_would_not_issue_are_refused() {
    let world = World::new(1);
    let server = server(world.manager(10));
    for odd in world.odd_certificates() {
        let client = client_showing(&world, vec![odd.der], &odd.key);
        let refused = Pair::new(client, &server).handshake().err();
        assert!(matches!(refused, Some(Refused::ByServer(_))), "{}", odd.what);
    }
}

#[test]
fn a_worker_cannot_pose_as_manager() {
    let world = World::new(1);
    let refused =
        connect(world.worker(5), ExpectedServer::AnyManager, &server(world.worker(6))).err().unwrap();
    assert!(matches!(refused, Refused::ByClient(_)), "{}", refused.text());
    assert!(refused.text().contains("Server {"), "{}", refused.text());
    let joining = joining_client_config(&world.root).unwrap();
    assert!(Pair::new(joining, &server(world.worker(6))).handshake().is_err());
}

#[test]
fn an_operator_cannot_serve() {
    let world = World::new(1);
    assert!(matches!(server_config(&handle(world.operator("admin"))), Err(TlsError::NotANode { .. })));
    // Nor with a server of its own making: its certificate is for clients.
    let operator = world.operator("admin");
    let verifier = verify::ServerVerifier {
        trust: verify::TrustSource::Identity(handle(world.worker(5))),
        expected: ExpectedServer::AnyManager,
        algorithms: config::provider().signature_verification_algorithms,
    };
    let error =
        verifier.verify_server_cert(&operator.chain()[0], &[], &server_name(), &[], now()).unwrap_err();
    assert!(format!("{error:?}").contains("InvalidPurpose"), "{error:?}");
}

#[test]
fn only_the_expected_node_is_accepted() {
    let world = World::new(1);
    let worker = server(world.worker(6));
    let pair = connect(world.worker(5), ExpectedServer::Node(node(6)), &worker).unwrap();
    assert_eq!(pair.server_seen_by_client().node(), Some(node(6)));
    for expected in [ExpectedServer::Node(node(7)), ExpectedServer::Manager(node(6))] {
        let refused = connect(world.worker(5), expected, &worker).err().unwrap();
        assert!(matches!(refused, Refused::ByClient(_)), "{}", refused.text());
    }
    let manager = server(world.manager(8));
    assert!(connect(world.worker(5), ExpectedServer::Manager(node(8)), &manager).is_ok());
    assert!(connect(world.worker(5), ExpectedServer::Manager(node(9)), &manager).is_err());
}

#[test]
fn a_client_refuses_a_foreign_cluster() {
    let world = World::new(1);
    for foreign in [World::new(1), World::new(2)] {
        let refused =
            connect(world.worker(5), ExpectedServer::AnyManager, &server(foreign.manager(10))).err().unwrap();
        assert!(matches!(refused, Refused::ByClient(_)), "{}", refused.text());
    }
}

#[test]
fn the_first_call_accepts_anybody_and_the_digest_decides() {
    let ours = World::new(1);
    let fake = World::new(1);
    let token = JoinToken::new(ours.root.digest(), TokenSecret::generate().unwrap());
    for (world, right) in [(&ours, true), (&fake, false)] {
        let server = server(world.manager(10));
        let mut pair = Pair::new(fetch_root_unverified().unwrap(), &server).handshake().unwrap();
        pair.talk();
        let verified = token.verify_root_digest(world.root.der());
        assert_eq!(verified.is_ok(), right);
        if let Ok(root) = verified {
            assert!(Pair::new(joining_client_config(&root).unwrap(), &server).handshake().is_ok());
        }
    }
}

#[test]
fn a_replaced_identity_is_used_by_the_next_handshake_only() {
    let world = World::new(1);
    let server_identity = handle(world.manager(10));
    let server = Arc::new(server_config(&server_identity).unwrap());
    let client_identity = handle(world.worker(5));
    let client = client_config(&client_identity, ExpectedServer::AnyManager).unwrap();

    let mut old = Pair::new(client.clone(), &server).handshake().unwrap();
    let old_server = old.server_seen_by_client();
    let old_client = old.client_seen_by_server().unwrap();

    assert_eq!(server_identity.replace(world.manager(10)).unwrap(), 2);
    // A promotion: the same node with another role.
    assert_eq!(client_identity.replace(world.manager(5)).unwrap(), 2);

    old.talk();
    assert_eq!(old.server_seen_by_client(), old_server);
    assert_eq!(old.client_seen_by_server().unwrap(), old_client);

    let new = Pair::new(client, &server).handshake().unwrap();
    assert_eq!(new.client.handshake_kind(), Some(rustls::HandshakeKind::Full));
    assert_ne!(new.server_seen_by_client().serial(), old_server.serial());
    assert_eq!(new.client_seen_by_server().unwrap().role(), Role::Manager);
}

#[test]
fn a_session_is_never_resumed() {
    let world = World::new(1);
    let server = server(world.manager(10));
    let identity = handle(world.worker(5));
    let config = Arc::new(client_config(&identity, ExpectedServer::AnyManager).unwrap());
    for _ in 0..3 {
        let pair = Pair {
            client: ClientConnection::new(Arc::clone(&config), server_name()).unwrap(),
            server: ServerConnection::new(Arc::clone(&server)).unwrap(),
        };
        let mut pair = pair.handshake().unwrap();
        pair.talk();
        assert_eq!(pair.client.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
}

#[test]
fn only_the_same_holder_replaces_an_identity() {
    let world = World::new(1);
    let identity = handle(world.worker(5));
    for other in [world.worker(6), World::new(2).worker(5), world.operator("admin")] {
        assert!(matches!(identity.replace(other), Err(ReplaceError::SomebodyElse { .. })));
    }
    assert_eq!(identity.generation(), 1);
}

#[test]
fn observers_hear_of_each_replacement() {
    let world = World::new(1);
    let identity = handle(world.worker(5));
    let seen = Arc::new(AtomicU64::new(0));
    let writer = Arc::clone(&seen);
    identity.watch(move |snapshot| writer.store(snapshot.generation(), Ordering::SeqCst));
    identity.replace(world.worker(5)).unwrap();
    identity.clone().replace(world.worker(5)).unwrap();
    assert_eq!(seen.load(Ordering::SeqCst), 3);
    assert_eq!(identity.current().generation(), 3);
}
