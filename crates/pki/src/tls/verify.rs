//! The two verifiers: chain and time by webpki, then who the peer is by our own rule.

use std::fmt;
use std::sync::Arc;

use coracle_model::id::{ClusterId, NodeId};
use coracle_model::role::Role;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, PeerIncompatible,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::swap::{SwappableIdentity, Trust};
use crate::identity::{IdentityError, PeerIdentity};
use crate::name::Subject;

/// Which server a client means to talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpectedServer {
    /// Any manager of the cluster.
    AnyManager,
    /// One node, as manager.
    Manager(NodeId),
    /// One node, whatever its role: nodes that fetch images from each other.
    Node(NodeId),
}

impl fmt::Display for ExpectedServer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnyManager => formatter.write_str("a manager"),
            Self::Manager(node) => write!(formatter, "manager {node}"),
            Self::Node(node) => write!(formatter, "node {node}"),
        }
    }
}

impl ExpectedServer {
    fn is(&self, subject: &Subject) -> bool {
        match self {
            Self::AnyManager => subject.role() == Role::Manager,
            Self::Manager(node) => *subject == Subject::Manager(*node),
            Self::Node(node) => subject.node() == Some(*node),
        }
    }
}

/// Why a peer whose certificate our root signed is refused all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// Its certificate is of another make.
    #[error("peer's certificate is not one of a cluster's member")]
    Identity(#[from] IdentityError),
    /// It belongs to another cluster.
    #[error("peer is of cluster {peer}, not of cluster {ours}")]
    Cluster {
        /// Its cluster.
        peer: ClusterId,
        /// Ours.
        ours: ClusterId,
    },
    /// It is a member, but not the one that was meant.
    #[error("server is {actual}, expected {expected}: the address belongs to another node")]
    Server {
        /// Who it is.
        actual: Subject,
        /// Who was meant.
        expected: ExpectedServer,
    },
}

impl PeerError {
    /// The refusal that a handshake failed with, if it was one of ours.
    #[must_use]
    pub fn of(error: &Error) -> Option<&Self> {
        match error {
            Error::InvalidCertificate(CertificateError::Other(OtherError(why))) => why.downcast_ref(),
            _ => None,
        }
    }
}

impl From<PeerError> for Error {
    fn from(error: PeerError) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
    }
}

fn identify(certificate: &CertificateDer<'_>, ours: ClusterId) -> Result<PeerIdentity, PeerError> {
    let peer = PeerIdentity::from_verified(certificate)?;
    if peer.cluster() != ours {
        return Err(PeerError::Cluster { peer: peer.cluster(), ours });
    }
    Ok(peer)
}

/// Where a verifier finds the root that it trusts at this moment.
#[derive(Debug)]
pub(crate) enum TrustSource {
    /// Always the same.
    Fixed(Arc<Trust>),
    /// That of an identity which may be replaced.
    Identity(SwappableIdentity),
}

impl TrustSource {
    fn get(&self) -> Arc<Trust> {
        match self {
            Self::Fixed(trust) => Arc::clone(trust),
            Self::Identity(identity) => Arc::clone(identity.current().trust()),
        }
    }
}

/// What rustls asks of verifiers of servers and of clients alike, in two traits: signatures of TLS 1.3 by `self.algorithms`.
/// TLS 1.2 is not among the versions of any configuration here.
macro_rules! signatures_of_tls13 {
    () => {
        fn verify_tls12_signature(
            &self,
            _message: &[u8],
            _certificate: &CertificateDer<'_>,
            _signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOfferedOrEnabled))
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, certificate, signature, &self.algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.algorithms.supported_schemes()
        }
    };
}

/// Verifies a server.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    pub(crate) trust: TrustSource,
    pub(crate) expected: ExpectedServer,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        // The name that the caller dialled says nothing in a cluster whose nodes are known by id.
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let trust = self.trust.get();
        let certificate = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            trust.anchors(),
            intermediates,
            now,
            self.algorithms.all,
        )?;
        let peer = identify(end_entity, trust.cluster())?;
        if !self.expected.is(peer.subject()) {
            return Err(PeerError::Server { actual: peer.subject().clone(), expected: self.expected }.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    signatures_of_tls13!();
}

/// Accepts any certificate of a server, but only for a connection whose one purpose is to learn a
/// root certificate that is then checked against a join token.
#[derive(Debug)]
pub(crate) struct AnyServer {
    algorithms: WebPkiSupportedAlgorithms,
}

impl AnyServer {
    pub(crate) fn new(provider: &CryptoProvider) -> Self {
        Self { algorithms: provider.signature_verification_algorithms }
    }
}

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    signatures_of_tls13!();
}

/// Verifies a client that shows a certificate, and lets one without a certificate in as nobody.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    pub(crate) identity: SwappableIdentity,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Without hints a client of ours shows the only certificate that it has.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let current = self.identity.current();
        let trust = current.trust();
        let verified = trust.client_chain_verifier().verify_client_cert(end_entity, intermediates, now)?;
        identify(end_entity, trust.cluster())?;
        Ok(verified)
    }

    signatures_of_tls13!();
}
