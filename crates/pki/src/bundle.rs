//! A member's own identity: certificate chain, key and the root it trusts, as one value and as one text.

use std::fmt;

use coracle_model::id::{ClusterId, NodeId};
use coracle_model::role::Role;
use rustls_pki_types::pem::SectionKind;
use rustls_pki_types::{CertificateDer, UnixTime};
use zeroize::Zeroizing;

use crate::identity::{IdentityError, PeerIdentity};
use crate::key::{KeyError, PrivateKey};
use crate::name::Subject;
use crate::pem;
use crate::root::{RootCertificate, RootError};
use crate::x509;

/// Why a certificate, key and root do not make an identity.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The text is not PEM.
    #[error("identity is not PEM (RFC 7468)")]
    Pem(#[source] rustls_pki_types::pem::Error),
    /// The sections are not the ones that make an identity.
    #[error(
        "identity is incomplete: it has {keys} private keys and {certificates} certificates, it needs one key, its certificate chain and the root"
    )]
    Sections {
        /// How many keys.
        keys: usize,
        /// How many certificates.
        certificates: usize,
    },
    /// A section of another kind.
    #[error("identity holds something besides certificates and a PKCS #8 private key")]
    UnexpectedSection,
    /// The key is not usable.
    #[error("identity's private key is not usable")]
    Key(#[from] KeyError),
    /// The last certificate is no root.
    #[error("identity's last certificate is not usable as the root")]
    Root(#[from] RootError),
    /// The first certificate is none of a member.
    #[error("identity's certificate is not usable")]
    Certificate(#[from] IdentityError),
    /// The certificate is for another key.
    #[error("identity's certificate for {subject} is not for its private key")]
    KeyMismatch {
        /// Whose certificate.
        subject: Subject,
    },
    /// The chain does not lead to the root.
    #[error("identity's certificate chain for {subject} is not signed by the root of cluster {cluster}")]
    Chain {
        /// Whose certificate.
        subject: Subject,
        /// Whose root.
        cluster: ClusterId,
    },
}

/// What a node or an operator proves itself with. `Debug` shows no key.
pub struct NodeIdentity {
    peer: PeerIdentity,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKey,
    root: RootCertificate,
}

impl NodeIdentity {
    /// Joins the parts and checks that they belong together: the leaf is for the key, each
    /// certificate is signed by the next and the last by the root. Does not look at the time, so that
    /// an identity that expired while the machine was off can be read and said to be expired.
    ///
    /// # Errors
    /// If they do not belong together.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKey,
        root: RootCertificate,
    ) -> Result<Self, BundleError> {
        let leaf = chain.first().ok_or(BundleError::Sections { keys: 1, certificates: 1 })?;
        let peer = PeerIdentity::from_verified(leaf)?;
        let public = x509::parse(leaf).map_err(IdentityError::Syntax)?;
        if crate::csr::p256_point(public.public_key()).as_deref() != Some(key.public_point()) {
            return Err(BundleError::KeyMismatch { subject: peer.subject().clone() });
        }
        if peer.cluster() != root.cluster() || !chain_is_signed(&chain, &root) {
            return Err(BundleError::Chain { subject: peer.subject().clone(), cluster: root.cluster() });
        }
        Ok(Self { peer, chain, key, root })
    }

    /// Reads what [`NodeIdentity::to_pem`] wrote.
    ///
    /// # Errors
    /// If the text is something else, or as [`NodeIdentity::new`].
    pub fn from_pem(text: &[u8]) -> Result<Self, BundleError> {
        let mut keys = Vec::new();
        let mut certificates = Vec::new();
        for section in pem::parse(text).map_err(BundleError::Pem)? {
            match section.kind {
                SectionKind::PrivateKey => keys.push(section.der),
                SectionKind::Certificate => certificates.push(CertificateDer::from(section.der.to_vec())),
                _ => return Err(BundleError::UnexpectedSection),
            }
        }
        let incomplete = BundleError::Sections { keys: keys.len(), certificates: certificates.len() };
        match (keys.as_slice(), certificates.pop()) {
            ([key], Some(root)) if !certificates.is_empty() => {
                Self::new(certificates, PrivateKey::from_pkcs8(key)?, RootCertificate::from_der(&root)?)
            }
            _ => Err(incomplete),
        }
    }

    /// The identity as PEM: key, leaf, further certificates of the chain, root. To be written only
    /// sealed, or where only the owner reads (mode 0600).
    ///
    /// # Errors
    /// If the key cannot be written.
    pub fn to_pem(&self) -> Result<Zeroizing<Vec<u8>>, BundleError> {
        let key = self.key.to_pkcs8()?;
        let sections = std::iter::once(("PRIVATE KEY", &key[..]))
            .chain(self.chain.iter().map(|certificate| ("CERTIFICATE", certificate.as_ref())))
            .chain(std::iter::once(("CERTIFICATE", self.root.der().as_ref())));
        Ok(pem::write(sections))
    }

    /// What the certificate says, as others see it.
    pub fn peer(&self) -> &PeerIdentity {
        &self.peer
    }

    /// Who this is.
    pub fn subject(&self) -> &Subject {
        self.peer.subject()
    }

    /// The node, unless this is an operator's identity.
    pub fn node(&self) -> Option<NodeId> {
        self.peer.node()
    }

    /// The role in the certificate.
    pub fn role(&self) -> Role {
        self.peer.role()
    }

    /// The cluster.
    pub fn cluster(&self) -> ClusterId {
        self.peer.cluster()
    }

    /// The root that this identity trusts and is signed by.
    pub fn root(&self) -> &RootCertificate {
        &self.root
    }

    /// Leaf first, without the root.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The key.
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// Whether the certificate's validity is over. A node whose identity has expired joins again.
    pub fn is_expired(&self, now: UnixTime) -> bool {
        now > self.peer.not_after()
    }
}

impl fmt::Debug for NodeIdentity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("NodeIdentity").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// Whether every certificate is signed by the next one's key and the last by the root's.
fn chain_is_signed(chain: &[CertificateDer<'static>], root: &RootCertificate) -> bool {
    let issuers = chain.iter().skip(1).chain(std::iter::once(root.der()));
    chain.iter().zip(issuers).all(|(certificate, issuer)| {
        let (Ok(certificate), Ok(issuer)) = (x509::parse(certificate), x509::parse(issuer)) else {
            return false;
        };
        certificate.issuer() == issuer.subject()
            && certificate.verify_signature(Some(issuer.public_key())).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, chain_text};

    #[test]
    fn an_identity_survives_its_text() {
        let world = World::new(1);
        for identity in [world.worker(5), world.manager(6), world.operator("admin")] {
            let text = identity.to_pem().unwrap();
            let copy = NodeIdentity::from_pem(&text).unwrap();
            assert_eq!(copy.peer(), identity.peer());
            assert_eq!(copy.chain(), identity.chain());
            assert_eq!(copy.root(), identity.root());
            assert_eq!(*copy.to_pem().unwrap(), *text);
        }
    }

    #[test]
    fn parts_that_do_not_belong_together_are_refused() {
        let world = World::new(1);
        let foreign = World::new(1);
        let identity = world.worker(5);
        let key = || PrivateKey::from_pkcs8(&identity.key().to_pkcs8().unwrap()).unwrap();
        let chain = || identity.chain().to_vec();
        let new = NodeIdentity::new;
        assert!(new(chain(), key(), world.root.clone()).is_ok());
        let error = new(chain(), PrivateKey::generate().unwrap(), world.root.clone()).unwrap_err();
        assert!(matches!(error, BundleError::KeyMismatch { .. }));
        let error = new(chain(), key(), foreign.root.clone()).unwrap_err();
        assert!(matches!(error, BundleError::Chain { .. }));
        assert!(new(Vec::new(), key(), world.root.clone()).is_err());
    }

    #[test]
    fn incomplete_texts_are_refused_without_showing_the_key() {
        let identity = World::new(1).worker(5);
        let text = String::from_utf8(identity.to_pem().unwrap().to_vec()).unwrap();
        let parts: Vec<&str> = text.split_inclusive("-----\n").collect();
        let secret_line = parts[1].lines().next().unwrap();
        let wrong = [
            String::new(),
            text.replacen("-----END PRIVATE KEY-----\n", "", 1),
            parts[2..].concat(),
            parts[..4].concat(),
            text.replace("PRIVATE KEY", "EC PRIVATE KEY"),
            format!("{text}{text}"),
        ];
        for text in wrong {
            let error = NodeIdentity::from_pem(text.as_bytes()).unwrap_err();
            let shown = format!("{} {error:?}", chain_text(&error));
            assert!(!shown.contains(secret_line), "{shown}");
        }
        assert!(!format!("{identity:?}").contains(secret_line));
    }
}
