//! How a node whose certificate is over proves that it is still the same node: with the key of that certificate, over a challenge
//! of the manager that is to give it a new one.
//!
//! No handshake accepts a certificate that is over, and none has to: the node connects as nobody, verifies the manager, asks for a
//! challenge ([`Challenger::challenge`]), and signs it together with its old certificate and its new request ([`prove`]). Whoever
//! overhears that, which only a manager can, has a proof for one key that is not its own, good for a minute and once.
//!
//! Whether the node is still a member, and with which role, is not decided here.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use coracle_model::id::ClusterId;
use rcgen::SigningKey as _;
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::csr::p256_point;
use crate::identity::{IdentityError, PeerIdentity};
use crate::key::PrivateKey;
use crate::root::RootCertificate;
use crate::tls::Trust;
use crate::x509;

/// How long a challenge may be answered.
pub const CHALLENGE_LIFE: Duration = Duration::from_secs(60);
/// What is signed begins with this, so that a signature for anything else is no proof.
const PURPOSE: &[u8] = b"coracle: a new certificate for one that is over, 1\0";
const NONCE: usize = 16;
const TIME: usize = 8;
const TAG: usize = 32;

/// Why a proof is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryError {
    /// The system gave no randomness, or the key could not sign.
    #[error("cannot make a challenge or a proof: the cryptographic library failed")]
    Cryptography,
    /// The challenge is not one of this process.
    #[error("challenge is not one that this manager gave")]
    Unknown,
    /// The challenge was given too long ago.
    #[error("challenge was given {age} s ago, it is good for {} s", CHALLENGE_LIFE.as_secs())]
    Late {
        /// Its age in seconds.
        age: u64,
    },
    /// The challenge was answered before.
    #[error("challenge was answered already")]
    Replayed,
    /// The certificate is not one of a member.
    #[error("certificate is not one of a cluster's member")]
    Certificate(#[from] IdentityError),
    /// The certificate is of another cluster.
    #[error("certificate is of cluster {theirs}, not of cluster {ours}")]
    OtherCluster {
        /// Its cluster.
        theirs: ClusterId,
        /// Ours.
        ours: ClusterId,
    },
    /// Another root has signed the certificate.
    #[error("certificate is not signed by the root of this cluster")]
    OtherRoot,
    /// Operators have no node object to ask.
    #[error("certificate is an operator's: only nodes come back by themselves")]
    NotANode,
    /// The signature is not by the certificate's key.
    #[error("proof is not by the key of the certificate")]
    Proof,
}

/// What a node sends to get a new certificate for one that is over.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// What the manager gave.
    pub challenge: &'a [u8],
    /// The certificate that is over, in DER.
    pub certificate: &'a [u8],
    /// The request for the new one, in DER.
    pub request: &'a [u8],
}

impl Claim<'_> {
    /// What is signed: each part has a fixed length, so that none can pass for another.
    fn message(&self) -> Vec<u8> {
        let parts = [self.challenge, self.certificate, self.request].map(|part| digest(&SHA256, part));
        let mut message = PURPOSE.to_vec();
        parts.iter().for_each(|part| message.extend_from_slice(part.as_ref()));
        message
    }
}

/// Signs a claim with the key of the certificate that is over.
///
/// # Errors
/// If the cryptographic library cannot sign.
pub fn prove(key: &PrivateKey, claim: &Claim<'_>) -> Result<Vec<u8>, RecoveryError> {
    key.sign(&claim.message()).map_err(|_| RecoveryError::Cryptography)
}

/// Gives challenges and checks their answers.
///
/// A challenge carries its own time and seal, so that those who only ask for challenges take no memory; one that was answered well
/// is remembered until it is too old.
#[derive(Debug)]
pub struct Challenger {
    key: hmac::Key,
    answered: Mutex<BTreeMap<Vec<u8>, u64>>,
}

impl Challenger {
    /// With a key of its own.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn new() -> Result<Self, RecoveryError> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &random::<32>()?);
        Ok(Self { key, answered: Mutex::default() })
    }

    /// A challenge that can be answered for [`CHALLENGE_LIFE`] from now on.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn challenge(&self, now: UnixTime) -> Result<Vec<u8>, RecoveryError> {
        let mut challenge = random::<NONCE>()?.to_vec();
        challenge.extend_from_slice(&now.as_secs().to_be_bytes());
        let tag = hmac::sign(&self.key, &challenge);
        challenge.extend_from_slice(tag.as_ref());
        Ok(challenge)
    }

    /// Checks a claim and its proof: says who has made it. The time of the certificate is not looked at.
    ///
    /// # Errors
    /// If anything is not as it should be, or the challenge was answered before.
    pub fn verify(
        &self,
        root: &RootCertificate,
        claim: &Claim<'_>,
        proof: &[u8],
        now: UnixTime,
    ) -> Result<PeerIdentity, RecoveryError> {
        let given = self.given(claim.challenge, now)?;
        let peer = holder(root, claim.certificate)?;
        let certificate = x509::parse(claim.certificate).map_err(IdentityError::Syntax)?;
        let point = p256_point(certificate.public_key()).ok_or(RecoveryError::Proof)?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
            .verify(&claim.message(), proof)
            .map_err(|_| RecoveryError::Proof)?;
        self.answer(claim.challenge, given, now)?;
        Ok(peer)
    }

    /// When the challenge was given.
    fn given(&self, challenge: &[u8], now: UnixTime) -> Result<u64, RecoveryError> {
        if challenge.len() != NONCE + TIME + TAG {
            return Err(RecoveryError::Unknown);
        }
        let (sealed, tag) = challenge.split_at(NONCE + TIME);
        hmac::verify(&self.key, sealed, tag).map_err(|_| RecoveryError::Unknown)?;
        let time = sealed.get(NONCE..).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
        let given = time.ok_or(RecoveryError::Unknown)?;
        // A clock that was set back makes no challenge good for longer.
        let age = now.as_secs().abs_diff(given);
        if age > CHALLENGE_LIFE.as_secs() { Err(RecoveryError::Late { age }) } else { Ok(given) }
    }

    fn answer(&self, challenge: &[u8], given: u64, now: UnixTime) -> Result<(), RecoveryError> {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.retain(|_, given| now.as_secs().abs_diff(*given) <= CHALLENGE_LIFE.as_secs());
        match answered.insert(challenge.to_vec(), given) {
            None => Ok(()),
            Some(_) => Err(RecoveryError::Replayed),
        }
    }
}

/// Who a certificate was given to: as a handshake would find it, but at a time at which it was good.
fn holder(root: &RootCertificate, certificate: &[u8]) -> Result<PeerIdentity, RecoveryError> {
    let peer = PeerIdentity::from_verified(certificate)?;
    if peer.cluster() != root.cluster() {
        return Err(RecoveryError::OtherCluster { theirs: peer.cluster(), ours: root.cluster() });
    }
    let trust = Trust::new(root).map_err(|_| RecoveryError::OtherRoot)?;
    trust
        .client_chain_verifier()
        .verify_client_cert(&CertificateDer::from(certificate), &[], peer.not_after())
        .map_err(|_| RecoveryError::OtherRoot)?;
    if peer.node().is_none() { Err(RecoveryError::NotANode) } else { Ok(peer) }
}

fn random<const N: usize>() -> Result<[u8; N], RecoveryError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| RecoveryError::Cryptography)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::NodeIdentity;
    use crate::csr::request_certificate;
    use crate::name::Subject;
    use crate::testing::{World, node, now};

    const YEAR: Duration = Duration::from_secs(365 * 86_400);

    struct Case {
        world: World,
        old: NodeIdentity,
        request: Vec<u8>,
        challenger: Challenger,
    }

    fn request() -> Vec<u8> {
        request_certificate(&PrivateKey::generate().unwrap()).unwrap().to_vec()
    }

    /// A worker whose certificate ended eleven months ago.
    fn case() -> Case {
        let world = World::new(1);
        let old = world.identity(Subject::Worker(node(5)), x509::earlier(now(), YEAR));
        assert!(old.peer().not_after() < now());
        Case { world, old, request: request(), challenger: Challenger::new().unwrap() }
    }

    impl Case {
        fn claim<'a>(&'a self, challenge: &'a [u8]) -> Claim<'a> {
            Claim { challenge, certificate: &self.old.chain()[0], request: &self.request }
        }

        fn verify(
            &self,
            claim: &Claim<'_>,
            proof: &[u8],
            at: UnixTime,
        ) -> Result<PeerIdentity, RecoveryError> {
            self.challenger.verify(&self.world.root, claim, proof, at)
        }
    }

    #[test]
    fn the_holder_of_a_certificate_that_is_over_is_known_once() {
        let case = case();
        let challenge = case.challenger.challenge(now()).unwrap();
        let claim = case.claim(&challenge);
        let proof = prove(case.old.key(), &claim).unwrap();
        let peer = case.verify(&claim, &proof, now()).unwrap();
        assert_eq!(peer.subject(), &Subject::Worker(node(5)));
        assert_eq!(case.verify(&claim, &proof, now()), Err(RecoveryError::Replayed));
        // Another signature of the same challenge is no other answer.
        let again = prove(case.old.key(), &claim).unwrap();
        assert_eq!(case.verify(&claim, &again, now()), Err(RecoveryError::Replayed));
    }

    #[test]
    fn a_challenge_ends_and_is_good_with_its_own_manager_only() {
        let case = case();
        let challenge = case.challenger.challenge(now()).unwrap();
        let claim = case.claim(&challenge);
        let proof = prove(case.old.key(), &claim).unwrap();
        let late = x509::later(now(), CHALLENGE_LIFE + Duration::from_secs(2));
        assert!(matches!(case.verify(&claim, &proof, late), Err(RecoveryError::Late { .. })));
        let earlier = x509::earlier(now(), CHALLENGE_LIFE + Duration::from_secs(2));
        assert!(matches!(case.verify(&claim, &proof, earlier), Err(RecoveryError::Late { .. })));
        let other = Challenger::new().unwrap();
        let verified = other.verify(&case.world.root, &claim, &proof, now());
        assert_eq!(verified, Err(RecoveryError::Unknown));
        for at in 0..challenge.len() {
            let mut changed = challenge.clone();
            changed[at] ^= 1;
            let claim = case.claim(&changed);
            let proof = prove(case.old.key(), &claim).unwrap();
            assert_eq!(case.verify(&claim, &proof, now()), Err(RecoveryError::Unknown), "byte {at}");
        }
        assert_eq!(case.verify(&case.claim(b""), &proof, now()), Err(RecoveryError::Unknown));
    }

    #[test]
    fn a_proof_is_for_its_certificate_and_request_and_by_its_key() {
        let case = case();
        let challenge = case.challenger.challenge(now()).unwrap();
        let claim = case.claim(&challenge);
        let forged = prove(&PrivateKey::generate().unwrap(), &claim).unwrap();
        assert_eq!(case.verify(&claim, &forged, now()), Err(RecoveryError::Proof));
        let proof = prove(case.old.key(), &claim).unwrap();
        // Somebody in between puts in a request for a key of its own.
        let own = request();
        let swapped = Claim { request: &own, ..claim };
        assert_eq!(case.verify(&swapped, &proof, now()), Err(RecoveryError::Proof));
        // Another node's certificate with this node's key.
        let other = case.world.identity(Subject::Manager(node(6)), now());
        let borrowed = Claim { certificate: &other.chain()[0], ..claim };
        let proof = prove(case.old.key(), &borrowed).unwrap();
        assert_eq!(case.verify(&borrowed, &proof, now()), Err(RecoveryError::Proof));
        // The key signs the challenge, but not for this purpose.
        let bare = case.old.key().sign(&challenge).unwrap();
        assert_eq!(case.verify(&claim, &bare, now()), Err(RecoveryError::Proof));
        assert_eq!(case.verify(&claim, b"", now()), Err(RecoveryError::Proof));
        // None of that has used up the challenge.
        let proof = prove(case.old.key(), &claim).unwrap();
        assert!(case.verify(&claim, &proof, now()).is_ok());
    }

    #[test]
    fn certificates_of_others_prove_nothing() {
        let case = case();
        let challenge = case.challenger.challenge(now()).unwrap();
        let verified = |identity: &NodeIdentity| {
            let claim = Claim { certificate: &identity.chain()[0], ..case.claim(&challenge) };
            case.verify(&claim, &prove(identity.key(), &claim).unwrap(), now()).unwrap_err()
        };
        let other = World::new(2).worker(5);
        assert!(matches!(verified(&other), RecoveryError::OtherCluster { .. }));
        // Another root that gives itself the same cluster's name.
        assert_eq!(verified(&World::new(1).worker(5)), RecoveryError::OtherRoot);
        assert_eq!(verified(&case.world.operator("ann")), RecoveryError::NotANode);
        let rubbish = Claim { certificate: b"rubbish", ..case.claim(&challenge) };
        assert!(matches!(case.verify(&rubbish, b"", now()), Err(RecoveryError::Certificate(_))));
        for odd in case.world.odd_certificates() {
            let claim = Claim { certificate: &odd.der, ..case.claim(&challenge) };
            let proof = prove(&odd.key, &claim).unwrap();
            assert!(case.verify(&claim, &proof, now()).is_err(), "{}", odd.what);
        }
    }
}
