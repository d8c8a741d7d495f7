//! Image tickets: a manager's word that one node may fetch one image from any other node.
//!
//! A ticket is bound to the node that uses it: whoever serves checks it against the certificate of
//! the connection, so a stolen ticket is worth nothing to another node.
//!
//! Layout, all numbers big-endian: version (1 byte, = 1), node id (16), manifest digest (32, SHA-256),
//! expiry (8, seconds since 1970), Ed25519 signature (64) over a fixed prefix and everything before it.

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use coracle_model::id::NodeId;
use rustls_pki_types::UnixTime;
use zeroize::Zeroizing;

/// Bytes of an encoded ticket.
pub const TICKET_BYTES: usize = BODY_BYTES + 64;
const BODY_BYTES: usize = 1 + 16 + 32 + 8;
const VERSION: u8 = 1;
/// Keeps a signature on a ticket from being one on anything else.
const DOMAIN: &[u8] = b"coracle image ticket v1\0";

/// Why a ticket is refused, or a ticket key is not usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// The length is not that of a ticket.
    #[error("image ticket has {actual} bytes instead of {TICKET_BYTES}")]
    Length {
        /// Its length.
        actual: usize,
    },
    /// A version that this node does not know.
    #[error("image ticket has version {actual}, this node knows {VERSION}: upgrade it")]
    Version {
        /// Its version.
        actual: u8,
    },
    /// Not signed by the managers' key.
    #[error("image ticket is not signed by this cluster's ticket key")]
    Signature,
    /// For another node.
    #[error("image ticket is for node {ticket}, not for node {peer} which shows it")]
    Node {
        /// Whose ticket it is.
        ticket: NodeId,
        /// Who shows it.
        peer: NodeId,
    },
    /// For another image.
    #[error("image ticket is for manifest sha256:{ticket}, not for sha256:{wanted}", ticket = hex(.ticket), wanted = hex(.wanted))]
    Digest {
        /// What it allows.
        ticket: [u8; 32],
        /// What is wanted.
        wanted: [u8; 32],
    },
    /// Too old.
    #[error(
        "image ticket expired at {expires_at}, it is {now} (seconds since 1970): ask a manager for a new one"
    )]
    Expired {
        /// Its expiry, in seconds since 1970.
        expires_at: u64,
        /// The present time, likewise.
        now: u64,
    },
    /// The key cannot be made or read.
    #[error("cannot make or read the image ticket key: {reason}")]
    Key {
        /// Why; it never contains key material.
        reason: &'static str,
    },
}

fn hex(digest: &[u8; 32]) -> String {
    use fmt::Write as _;
    digest.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The key with which managers sign tickets. Wiped when dropped, not shown by `Debug`.
pub struct TicketKey {
    pair: Ed25519KeyPair,
}

impl TicketKey {
    /// Makes a new key from the system's randomness.
    ///
    /// # Errors
    /// If the system has none.
    pub fn generate() -> Result<Self, TicketError> {
        Ed25519KeyPair::generate()
            .map(|pair| Self { pair })
            .map_err(|_| TicketError::Key { reason: "the system has no randomness" })
    }

    /// The key with this seed (RFC 8032, section 5.1.5), read from encrypted storage.
    ///
    /// # Errors
    /// If the library refuses it.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, TicketError> {
        Ed25519KeyPair::from_seed_unchecked(seed)
            .map(|pair| Self { pair })
            .map_err(|_| TicketError::Key { reason: "the seed is not one of an Ed25519 key" })
    }

    /// The seed, for encrypted storage.
    ///
    /// # Errors
    /// If the library does not give it.
    pub fn expose_seed(&self) -> Result<Zeroizing<[u8; 32]>, TicketError> {
        use aws_lc_rs::encoding::{AsBigEndian as _, Curve25519SeedBin};
        let unreadable = TicketError::Key { reason: "the library does not give out the seed" };
        let seed = self.pair.seed().map_err(|_| unreadable.clone())?;
        let bytes: Curve25519SeedBin<'_> = seed.as_be_bytes().map_err(|_| unreadable.clone())?;
        bytes.as_ref().try_into().map(Zeroizing::new).map_err(|_| unreadable)
    }

    /// The public part, which every node gets.
    ///
    /// # Errors
    /// If the library's key has another length than 32 bytes.
    pub fn public(&self) -> Result<TicketPublicKey, TicketError> {
        self.pair
            .public_key()
            .as_ref()
            .try_into()
            .map(TicketPublicKey)
            .map_err(|_| TicketError::Key { reason: "its public part has not 32 bytes" })
    }

    /// Signs a ticket.
    pub fn sign(&self, ticket: &Ticket) -> [u8; TICKET_BYTES] {
        let body = ticket.body();
        let signature = self.pair.sign(&signed_bytes(&body));
        let mut bytes = [0; TICKET_BYTES];
        bytes[..BODY_BYTES].copy_from_slice(&body);
        bytes[BODY_BYTES..].copy_from_slice(signature.as_ref());
        bytes
    }
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TicketKey(redacted)")
    }
}

/// The public part of the managers' ticket key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TicketPublicKey(pub [u8; 32]);

impl TicketPublicKey {
    /// Verifies that `ticket` allows `peer`, as its certificate names it, to fetch the image with the
    /// manifest digest `wanted` at the time `now`.
    ///
    /// # Errors
    /// Says which of these it does not.
    pub fn verify(
        &self,
        ticket: &[u8],
        now: UnixTime,
        peer: NodeId,
        wanted: &[u8; 32],
    ) -> Result<Ticket, TicketError> {
        let ticket = self.open(ticket)?;
        if ticket.node != peer {
            return Err(TicketError::Node { ticket: ticket.node, peer });
        }
        if ticket.manifest != *wanted {
            return Err(TicketError::Digest { ticket: ticket.manifest, wanted: *wanted });
        }
        if now.as_secs() >= ticket.expires_at {
            return Err(TicketError::Expired { expires_at: ticket.expires_at, now: now.as_secs() });
        }
        Ok(ticket)
    }

    /// Checks form and signature.
    fn open(&self, bytes: &[u8]) -> Result<Ticket, TicketError> {
        let length = TicketError::Length { actual: bytes.len() };
        let bytes: &[u8; TICKET_BYTES] = bytes.try_into().map_err(|_| length)?;
        if bytes[0] != VERSION {
            return Err(TicketError::Version { actual: bytes[0] });
        }
        let (body, signature) = bytes.split_at(BODY_BYTES);
        UnparsedPublicKey::new(&ED25519, &self.0)
            .verify(&signed_bytes(body), signature)
            .map_err(|_| TicketError::Signature)?;
        Ok(Ticket::from_body(body))
    }
}

fn signed_bytes(body: &[u8]) -> Vec<u8> {
    [DOMAIN, body].concat()
}

/// What a ticket allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// Who may fetch.
    pub node: NodeId,
    /// SHA-256 of the image's manifest.
    pub manifest: [u8; 32],
    /// The first second, since 1970, at which the ticket is worth nothing.
    pub expires_at: u64,
}

impl Ticket {
    fn body(&self) -> [u8; BODY_BYTES] {
        let mut body = [0; BODY_BYTES];
        body[0] = VERSION;
        body[1..17].copy_from_slice(&self.node.bits().to_be_bytes());
        body[17..49].copy_from_slice(&self.manifest);
        body[49..57].copy_from_slice(&self.expires_at.to_be_bytes());
        body
    }

    /// Reads a body whose length and version were checked.
    fn from_body(body: &[u8]) -> Self {
        let mut node = [0; 16];
        let mut manifest = [0; 32];
        let mut expires_at = [0; 8];
        node.copy_from_slice(&body[1..17]);
        manifest.copy_from_slice(&body[17..49]);
        expires_at.copy_from_slice(&body[49..57]);
        Self {
            node: NodeId::from_bits(u128::from_be_bytes(node)),
            manifest,
            expires_at: u64::from_be_bytes(expires_at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::node;
    use proptest::prelude::*;
    use std::time::Duration;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    const TICKET: fn() -> Ticket = || Ticket { node: node(5), manifest: [0xab; 32], expires_at: 1000 };

    #[test]
    fn a_good_ticket_is_good_and_each_fault_is_named() {
        let key = TicketKey::generate().unwrap();
        let public = key.public().unwrap();
        let bytes = key.sign(&TICKET());
        assert_eq!(public.verify(&bytes, at(999), node(5), &[0xab; 32]), Ok(TICKET()));
        assert_eq!(
            public.verify(&bytes, at(1000), node(5), &[0xab; 32]),
            Err(TicketError::Expired { expires_at: 1000, now: 1000 })
        );
        assert!(matches!(
            public.verify(&bytes, at(999), node(6), &[0xab; 32]),
            Err(TicketError::Node { .. })
        ));
        let other = public.verify(&bytes, at(999), node(5), &[0xcd; 32]).unwrap_err();
        assert!(other.to_string().contains(&"cd".repeat(32)), "{other}");
        assert!(matches!(
            public.verify(&bytes[1..], at(0), node(5), &[0; 32]),
            Err(TicketError::Length { .. })
        ));
        let mut newer = bytes;
        newer[0] = 2;
        assert_eq!(public.verify(&newer, at(0), node(5), &[0; 32]), Err(TicketError::Version { actual: 2 }));
    }

    #[test]
    fn another_key_and_another_purpose_are_refused() {
        let key = TicketKey::generate().unwrap();
        let foreign = TicketKey::generate().unwrap();
        let bytes = foreign.sign(&TICKET());
        let public = key.public().unwrap();
        assert_eq!(public.verify(&bytes, at(0), node(5), &[0xab; 32]), Err(TicketError::Signature));
        // The same body signed without the prefix, as some other protocol might have done.
        let mut bytes = key.sign(&TICKET());
        let body = TICKET().body();
        bytes[BODY_BYTES..].copy_from_slice(key.pair.sign(&body).as_ref());
        assert_eq!(public.verify(&bytes, at(0), node(5), &[0xab; 32]), Err(TicketError::Signature));
    }

    #[test]
    fn the_seed_is_the_key() {
        let key = TicketKey::generate().unwrap();
        let copy = TicketKey::from_seed(&key.expose_seed().unwrap()).unwrap();
        assert_eq!(copy.public().unwrap(), key.public().unwrap());
        assert_eq!(format!("{key:?}"), "TicketKey(redacted)");
    }

    proptest! {
        #[test]
        fn a_changed_ticket_is_refused(at_byte in 0..TICKET_BYTES, bit in 0_u8..8) {
            let key = TicketKey::from_seed(&[9; 32]).unwrap();
            let mut bytes = key.sign(&TICKET());
            bytes[at_byte] ^= 1 << bit;
            prop_assert!(key.public().unwrap().verify(&bytes, at(0), node(5), &[0xab; 32]).is_err());
        }
    }
}
