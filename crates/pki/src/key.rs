//! The private keys of nodes, operators and the root: ECDSA on P-256.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use rcgen::{PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

/// Why a key cannot be made or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The system gave no randomness, or the cryptographic library refused.
    #[error(
        "cannot make a P-256 private key: the cryptographic library failed, check that the system has randomness"
    )]
    Generate,
    /// The bytes are no such key.
    #[error("private key is not an ECDSA P-256 key in PKCS #8 form: {reason}")]
    Parse {
        /// The library's reason; it never contains key material.
        reason: String,
    },
    /// The key cannot be written.
    #[error("cannot write the private key in PKCS #8 form")]
    Encode,
}

/// An ECDSA P-256 private key. Its memory is wiped when it is dropped and `Debug` shows nothing of it.
pub struct PrivateKey {
    pair: EcdsaKeyPair,
}

impl PrivateKey {
    /// Makes a new key from the system's randomness.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)
            .map(|pair| Self { pair })
            .map_err(|_| KeyError::Generate)
    }

    /// Reads a key in PKCS #8 form (RFC 5208).
    ///
    /// # Errors
    /// If the bytes are not a key, or one of another kind.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der)
            .map(|pair| Self { pair })
            .map_err(|error| KeyError::Parse { reason: error.to_string() })
    }

    /// The key in PKCS #8 form. Write it only where it is encrypted or where nobody else reads.
    ///
    /// # Errors
    /// If the cryptographic library cannot write it.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        // The library's document wipes itself.
        let document = self.pair.to_pkcs8v1().map_err(|_| KeyError::Encode)?;
        Ok(Zeroizing::new(document.as_ref().to_vec()))
    }

    /// The public part: an uncompressed point (SEC 1, 65 bytes).
    pub fn public_point(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// The form rustls signs with.
    pub(crate) fn to_rustls(&self) -> Result<std::sync::Arc<dyn rustls::sign::SigningKey>, KeyError> {
        let pkcs8 = self.to_pkcs8()?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(&pkcs8[..]));
        rustls::crypto::aws_lc_rs::sign::any_ecdsa_type(&der)
            .map_err(|error| KeyError::Parse { reason: error.to_string() })
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PrivateKey(redacted)")
    }
}

impl PublicKeyData for PrivateKey {
    fn der_bytes(&self) -> &[u8] {
        self.public_point()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for PrivateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.pair
            .sign(&SystemRandom::new(), message)
            .map(|signature| signature.as_ref().to_vec())
            .map_err(|_| rcgen::Error::RingUnspecified)
    }
}

/// The public part of a P-256 key, as a certificate will carry it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PublicPoint(pub(crate) Vec<u8>);

impl PublicKeyData for PublicPoint {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_text_and_is_never_shown() {
        let key = PrivateKey::generate().unwrap();
        let copy = PrivateKey::from_pkcs8(&key.to_pkcs8().unwrap()).unwrap();
        assert_eq!(copy.public_point(), key.public_point());
        assert_eq!(key.public_point().len(), 65);
        assert_eq!(format!("{key:?}"), "PrivateKey(redacted)");
    }

    #[test]
    fn rubbish_is_no_key() {
        assert!(matches!(PrivateKey::from_pkcs8(b"rubbish"), Err(KeyError::Parse { .. })));
    }
}
