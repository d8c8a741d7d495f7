//! Certificate requests (PKCS #10, RFC 2986): a public key and the proof that its key is at hand.
//!
//! Nothing else of a request counts. Names and extensions in it are not even read.

use rcgen::CertificateParams;
use rustls_pki_types::CertificateSigningRequestDer;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::key::{PrivateKey, PublicPoint};
use crate::x509;

/// The largest request that is looked at, in bytes. One of ours has about 250.
pub const MAX_REQUEST_BYTES: usize = 16 * 1024;

/// Why a certificate request cannot be made or is refused.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// It could not be signed.
    #[error("cannot sign the certificate request")]
    Sign(#[source] rcgen::Error),
    /// Too long.
    #[error("certificate request has {actual} bytes, at most {MAX_REQUEST_BYTES} are looked at")]
    TooLong {
        /// Its length.
        actual: usize,
    },
    /// Not a request.
    #[error("certificate request is not PKCS #10 in DER: {reason}")]
    Parse {
        /// What the parser says.
        reason: String,
    },
    /// The key is of another kind.
    #[error("certificate request is for a key that is not ECDSA P-256")]
    Key,
    /// The signature is wrong: the sender does not have the key.
    #[error("certificate request is not signed by the key that it is for")]
    Signature,
}

/// A request that has been checked: its sender has the private key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateRequest {
    public: PublicPoint,
}

impl CertificateRequest {
    /// Reads a request and verifies that it is signed by its own key, which must be P-256.
    ///
    /// # Errors
    /// If anything of that is not so.
    pub fn from_der(der: &[u8]) -> Result<Self, RequestError> {
        if der.len() > MAX_REQUEST_BYTES {
            return Err(RequestError::TooLong { actual: der.len() });
        }
        let (rest, request) = X509CertificationRequest::from_der(der)
            .map_err(|error| RequestError::Parse { reason: error.to_string() })?;
        if !rest.is_empty() {
            return Err(RequestError::Parse { reason: format!("{} bytes follow it", rest.len()) });
        }
        let public = p256_point(&request.certification_request_info.subject_pki).ok_or(RequestError::Key)?;
        request.verify_signature().map_err(|_| RequestError::Signature)?;
        Ok(Self { public: PublicPoint(public) })
    }

    pub(crate) fn public(&self) -> &PublicPoint {
        &self.public
    }
}

/// Makes the request for a certificate for `key`, in DER. It asks for no name: the answer's names are
/// the manager's choice.
///
/// # Errors
/// If signing fails.
pub fn request_certificate(key: &PrivateKey) -> Result<CertificateSigningRequestDer<'static>, RequestError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = x509::distinguished_name("coracle", "coracle", None);
    let request = params.serialize_request(key).map_err(RequestError::Sign)?;
    Ok(request.into())
}

/// The uncompressed point of a P-256 key (RFC 5480, section 2); none for any other key.
pub(crate) fn p256_point(key: &SubjectPublicKeyInfo<'_>) -> Option<Vec<u8>> {
    const UNCOMPRESSED: u8 = 4;
    let curve = key.algorithm.parameters.as_ref()?.as_oid().ok()?;
    let point: &[u8] = &key.subject_public_key.data;
    let right = key.algorithm.algorithm == oid_registry::OID_KEY_TYPE_EC_PUBLIC_KEY
        && curve == oid_registry::OID_EC_P256
        && key.subject_public_key.unused_bits == 0
        && point.len() == 65
        && point.first() == Some(&UNCOMPRESSED);
    right.then(|| point.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_holds_the_key() {
        let key = PrivateKey::generate().unwrap();
        let der = request_certificate(&key).unwrap();
        let request = CertificateRequest::from_der(&der).unwrap();
        assert_eq!(request.public().0, key.public_point());
        assert!(der.len() < 1000);
    }

    #[test]
    fn a_broken_signature_is_refused() {
        let key = PrivateKey::generate().unwrap();
        let mut der = request_certificate(&key).unwrap().to_vec();
        let last = der.len() - 1;
        der[last] ^= 1;
        assert!(matches!(CertificateRequest::from_der(&der), Err(RequestError::Signature)));
    }

    #[test]
    fn a_key_swapped_into_a_request_is_refused() {
        let victim = PrivateKey::generate().unwrap();
        let attacker = PrivateKey::generate().unwrap();
        let mut der = request_certificate(&attacker).unwrap().to_vec();
        let at = der.windows(65).position(|window| window == attacker.public_point()).unwrap();
        der[at..at + 65].copy_from_slice(victim.public_point());
        assert!(matches!(CertificateRequest::from_der(&der), Err(RequestError::Signature)));
    }

    #[test]
    fn other_kinds_of_keys_are_refused() {
        for algorithm in [&rcgen::PKCS_ED25519, &rcgen::PKCS_ECDSA_P384_SHA384] {
            let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let der = CertificateParams::default().serialize_request(&key).unwrap();
            assert!(matches!(CertificateRequest::from_der(der.der()), Err(RequestError::Key)));
        }
    }

    #[test]
    fn too_much_is_refused_unread() {
        let long = vec![0; MAX_REQUEST_BYTES + 1];
        assert!(matches!(CertificateRequest::from_der(&long), Err(RequestError::TooLong { .. })));
    }

    proptest! {
        #[test]
        fn any_change_is_refused_or_harmless(at in 0_usize..200, bit in 0_u8..8) {
            let key = PrivateKey::generate().unwrap();
            let mut der = request_certificate(&key).unwrap().to_vec();
            let at = at % der.len();
            der[at] ^= 1 << bit;
            if let Ok(request) = CertificateRequest::from_der(&der) {
                prop_assert_eq!(&request.public().0[..], key.public_point());
            }
        }
    }
}
