//! The root of a cluster's trust: one self-signed certificate and the key that signs all others.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use coracle_model::id::ClusterId;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyUsagePurpose, SerialNumber};
use rustls_pki_types::pem::SectionKind;
use rustls_pki_types::{CertificateDer, UnixTime};
use zeroize::Zeroizing;

use crate::base36;
use crate::key::{KeyError, PrivateKey};
use crate::pem;
use crate::x509::{self, CertificateSyntaxError};

/// The common name of every cluster's root.
pub const ROOT_COMMON_NAME: &str = "coracle-ca";
/// How long a root is valid: 20 years of 365.25 days.
pub const ROOT_VALIDITY: Duration = Duration::from_secs(20 * 365 * 86_400 + 5 * 86_400);

/// Why a root cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// The key cannot be made or read.
    #[error("root key is not usable")]
    Key(#[from] KeyError),
    /// The certificate could not be written.
    #[error("cannot sign the root certificate of cluster {cluster}")]
    Sign {
        /// The cluster.
        cluster: ClusterId,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// The certificate cannot be read.
    #[error("root certificate is not usable")]
    Syntax(#[from] CertificateSyntaxError),
    /// The certificate is one, but not a root of ours.
    #[error("certificate is not the root of a Coracle cluster: {reason}")]
    NotARoot {
        /// What is different.
        reason: &'static str,
    },
    /// The text is not PEM.
    #[error("text is not PEM (RFC 7468)")]
    Pem(#[source] rustls_pki_types::pem::Error),
    /// The text has not exactly the section wanted.
    #[error("PEM text holds {actual} sections, expected exactly one {expected}")]
    Sections {
        /// The label of the section.
        expected: &'static str,
        /// How many sections there are.
        actual: usize,
    },
}

/// SHA-256 over the DER of a root certificate; written as 50 characters of base 36. Public.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RootDigest(pub [u8; 32]);

impl RootDigest {
    /// Characters of the text form.
    pub const TEXT_LENGTH: usize = 50;

    /// The digest of a certificate that nobody has looked into yet.
    pub fn of(der: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, der).as_ref());
        Self(bytes)
    }
}

impl fmt::Display for RootDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&base36::encode(&self.0, Self::TEXT_LENGTH))
    }
}

impl fmt::Debug for RootDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "RootDigest({self})")
    }
}

/// The public certificate of a cluster's root.
#[derive(Clone, PartialEq, Eq)]
pub struct RootCertificate {
    der: CertificateDer<'static>,
    cluster: ClusterId,
    public_point: Vec<u8>,
    not_after: UnixTime,
}

impl RootCertificate {
    /// Reads a root certificate and checks that it is one of ours: self-signed with P-256, an
    /// authority for nothing below nodes, named as a cluster's root. Trusts nothing: whether this is
    /// *the* root is what [`RootCertificate::digest`] is for. Does not look at the time.
    ///
    /// # Errors
    /// If it is anything else.
    pub fn from_der(der: &[u8]) -> Result<Self, RootError> {
        let certificate = x509::parse(der)?;
        let not_a_root = |reason| RootError::NotARoot { reason };
        let names = x509::names(certificate.subject(), false)?;
        if names.common_name != ROOT_COMMON_NAME {
            return Err(not_a_root("its common name is not coracle-ca"));
        }
        let cluster =
            names.organization.parse().map_err(|_| not_a_root("its organisation is not a cluster id"))?;
        let constraints = certificate
            .basic_constraints()
            .ok()
            .flatten()
            .ok_or_else(|| not_a_root("it has no basic constraints"))?;
        if !constraints.value.ca || constraints.value.path_len_constraint != Some(0) {
            return Err(not_a_root("it is not an authority with path length 0"));
        }
        if certificate.subject() != certificate.issuer() || certificate.verify_signature(None).is_err() {
            return Err(not_a_root("it is not signed by its own key"));
        }
        let public_point = crate::csr::p256_point(certificate.public_key())
            .ok_or_else(|| not_a_root("its key is not an ECDSA P-256 key"))?;
        let not_after = x509::time(certificate.validity().not_after)?;
        Ok(Self { der: CertificateDer::from(der.to_vec()), cluster, public_point, not_after })
    }

    /// Reads exactly one certificate in PEM.
    ///
    /// # Errors
    /// As [`RootCertificate::from_der`], and if the text is not PEM or holds something else.
    pub fn from_pem(text: &[u8]) -> Result<Self, RootError> {
        let der = single_section(text, "CERTIFICATE", |kind| matches!(kind, SectionKind::Certificate))?;
        Self::from_der(&der)
    }

    /// The certificate in PEM.
    pub fn to_pem(&self) -> String {
        let text = pem::write([("CERTIFICATE", self.der.as_ref())].into_iter());
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The certificate in DER.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// The cluster whose root this is.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// What a join token pins.
    pub fn digest(&self) -> RootDigest {
        RootDigest::of(&self.der)
    }

    /// The last second at which the root is valid.
    pub fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// The public key, an uncompressed P-256 point.
    pub(crate) fn public_point(&self) -> &[u8] {
        &self.public_point
    }
}

impl fmt::Debug for RootCertificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RootCertificate")
            .field("cluster", &self.cluster)
            .field("digest", &self.digest())
            .finish_non_exhaustive()
    }
}

/// The key of a cluster's root. Whoever has it can be anybody: it is wiped from memory when dropped
/// and never shown.
#[derive(Debug)]
pub struct RootKey(PrivateKey);

impl RootKey {
    /// Makes a new root key from the system's randomness.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn generate() -> Result<Self, RootError> {
        Ok(Self(PrivateKey::generate()?))
    }

    /// Makes the certificate of this key as the root of `cluster`, valid for [`ROOT_VALIDITY`].
    ///
    /// # Errors
    /// If the system has no randomness or signing fails.
    pub fn certify(&self, cluster: ClusterId, now: UnixTime) -> Result<RootCertificate, RootError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = x509::distinguished_name(ROOT_COMMON_NAME, &cluster.to_string(), None);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number =
            Some(SerialNumber::from_slice(&x509::random_serial().ok_or(KeyError::Generate)?));
        x509::set_validity(&mut params, x509::earlier(now, x509::BACKDATE), x509::later(now, ROOT_VALIDITY));
        let certificate =
            params.self_signed(&self.0).map_err(|source| RootError::Sign { cluster, source })?;
        RootCertificate::from_der(certificate.der())
    }

    /// Reads a root key in PKCS #8 form.
    ///
    /// # Errors
    /// If it is not a P-256 key.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, RootError> {
        Ok(Self(PrivateKey::from_pkcs8(der)?))
    }

    /// The key in PKCS #8 form, to be stored encrypted.
    ///
    /// # Errors
    /// If the cryptographic library cannot write it.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, RootError> {
        Ok(self.0.to_pkcs8()?)
    }

    /// Reads exactly one private key in PEM.
    ///
    /// # Errors
    /// If the text is not PEM or is no P-256 key in PKCS #8 form.
    pub fn from_pem(text: &[u8]) -> Result<Self, RootError> {
        let der = single_section(text, "PRIVATE KEY", |kind| matches!(kind, SectionKind::PrivateKey))?;
        Self::from_pkcs8(&der)
    }

    /// The key in PEM, to be stored encrypted.
    ///
    /// # Errors
    /// If the cryptographic library cannot write it.
    pub fn to_pem(&self) -> Result<Zeroizing<Vec<u8>>, RootError> {
        let der = self.0.to_pkcs8()?;
        Ok(pem::write([("PRIVATE KEY", &der[..])].into_iter()))
    }

    pub(crate) fn private_key(&self) -> &PrivateKey {
        &self.0
    }
}

fn single_section(
    text: &[u8],
    expected: &'static str,
    wanted: impl Fn(SectionKind) -> bool,
) -> Result<Zeroizing<Vec<u8>>, RootError> {
    let mut sections = pem::parse(text).map_err(RootError::Pem)?;
    let actual = sections.len();
    match sections.pop() {
        Some(section) if actual == 1 && wanted(section.kind) => Ok(section.der),
        _ => Err(RootError::Sections { expected, actual }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cluster, now};

    #[test]
    fn a_root_is_what_it_should_be() {
        let key = RootKey::generate().unwrap();
        let now = now();
        let root = key.certify(cluster(7), now).unwrap();
        assert_eq!(root.cluster(), cluster(7));
        assert_eq!(root.not_after().as_secs(), now.as_secs() + ROOT_VALIDITY.as_secs());
        let certificate = x509::parse(root.der()).unwrap();
        assert_eq!(
            x509::time(certificate.validity().not_before).unwrap().as_secs(),
            now.as_secs() - x509::BACKDATE.as_secs()
        );
        assert_eq!(root.public_point(), key.private_key().public_point());
    }

    #[test]
    fn certificate_and_key_survive_their_text() {
        let key = RootKey::generate().unwrap();
        let root = key.certify(cluster(7), now()).unwrap();
        assert_eq!(RootCertificate::from_pem(root.to_pem().as_bytes()).unwrap(), root);
        let copy = RootKey::from_pem(&key.to_pem().unwrap()).unwrap();
        assert_eq!(copy.private_key().public_point(), root.public_point());
        assert!(matches!(RootKey::from_pem(root.to_pem().as_bytes()), Err(RootError::Sections { .. })));
        assert_eq!(format!("{key:?}"), "RootKey(PrivateKey(redacted))");
    }

    #[test]
    fn other_certificates_are_no_roots() {
        let world = crate::testing::World::new(1);
        let node = world.worker(5);
        assert!(RootCertificate::from_der(&node.chain()[0]).is_err());
        assert!(RootCertificate::from_der(b"rubbish").is_err());
        let mut long = world.root.der().to_vec();
        long.push(0);
        assert!(matches!(
            RootCertificate::from_der(&long),
            Err(RootError::Syntax(CertificateSyntaxError::TrailingBytes { count: 1 }))
        ));
    }

    #[test]
    fn a_changed_root_has_another_digest_and_a_broken_signature() {
        let root = RootKey::generate().unwrap().certify(cluster(7), now()).unwrap();
        let mut changed = root.der().to_vec();
        let last = changed.len() - 1;
        changed[last] ^= 1;
        assert_ne!(RootDigest::of(&changed), root.digest());
        assert!(RootCertificate::from_der(&changed).is_err());
    }
}
