//! One data key and what it does: AES-256-GCM-SIV (RFC 8452) with a random nonce in front.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand;
use zeroize::Zeroizing;

use crate::SealError;
use crate::keyring::KeyId;

/// Length of a data or wrapping key, in bytes.
pub const KEY_BYTES: usize = 32;

/// Length of the authentication tag of AES-256-GCM-SIV, in bytes.
const TAG_BYTES: usize = 16;

/// Length of the key id in front of a sealed value, in bytes.
const KEY_ID_BYTES: usize = 4;

/// How much longer a sealed value is than its plaintext, in bytes: key id, nonce and tag.
pub const OVERHEAD: usize = KEY_ID_BYTES + NONCE_LEN + TAG_BYTES;

/// The secret bytes of a key; wiped when dropped.
pub(crate) type KeyBytes = Zeroizing<[u8; KEY_BYTES]>;

/// Draws a new key.
pub(crate) fn random_key() -> Result<KeyBytes, SealError> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    rand::fill(key.as_mut_slice()).map_err(|_| SealError::Cryptography { during: "drawing a key" })?;
    Ok(key)
}

/// A key that is ready for use. The library's context wipes its own copy when it is freed.
pub(crate) struct Cipher {
    key_id: KeyId,
    key: LessSafeKey,
}

impl Cipher {
    pub(crate) fn new(key_id: KeyId, bytes: &[u8; KEY_BYTES]) -> Result<Self, SealError> {
        let key = UnboundKey::new(&AES_256_GCM_SIV, bytes)
            .map_err(|_| SealError::Cryptography { during: "preparing a key" })?;
        Ok(Self { key_id, key: LessSafeKey::new(key) })
    }

    /// Appends key id, nonce, ciphertext and tag to `out`.
    pub(crate) fn seal_into(&self, aad: &[u8], plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), SealError> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_| SealError::Cryptography { during: "drawing a nonce" })?;
        out.reserve(OVERHEAD + plaintext.len());
        out.extend_from_slice(&self.key_id.to_le_bytes());
        out.extend_from_slice(&nonce);
        let start = out.len();
        out.extend_from_slice(plaintext);
        let tag = self
            .key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(aad),
                &mut out[start..],
            )
            .map_err(|_| SealError::Cryptography { during: "encrypting" })?;
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// Opens what [`Cipher::seal_into`] appended.
    pub(crate) fn open(&self, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let (key_id, rest) = split_key_id(sealed)?;
        if key_id != self.key_id {
            // The id is not part of the associated data, so a changed one would go unnoticed.
            return Err(SealError::UnknownKey { key_id });
        }
        let (nonce, ciphertext) = rest.split_at(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(nonce)
            .map_err(|_| SealError::Cryptography { during: "reading a nonce" })?;
        let mut buffer = ciphertext.to_vec();
        let length = self
            .key
            .open_in_place(nonce, Aad::from(aad), &mut buffer)
            .map_err(|_| SealError::Damaged { key_id: self.key_id })?
            .len();
        buffer.truncate(length);
        Ok(buffer)
    }
}

/// Splits a sealed value into its key id and the rest, which is long enough for nonce and tag.
pub(crate) fn split_key_id(sealed: &[u8]) -> Result<(KeyId, &[u8]), SealError> {
    let short = || SealError::Short { length: sealed.len(), minimum: OVERHEAD };
    if sealed.len() < OVERHEAD {
        return Err(short());
    }
    let (key_id, rest) = sealed.split_first_chunk::<KEY_ID_BYTES>().ok_or_else(short)?;
    Ok((KeyId::from_le_bytes(*key_id), rest))
}
