//! The form of the keyring file.
//!
//! ```text
//! "CRKR" | version u32 | wrapping kind u8 | wrapping key fingerprint 8 bytes | sealed body
//! body:    current key id u32 | number of keys u32 | (key id u32, key 32 bytes)*
//! ```
//! Integers are little-endian. Everything before the sealed body is its associated data. The fingerprint
//! tells a wrong wrapping key from a damaged file, so that an operator gets the right advice.

use std::collections::BTreeMap;
use std::path::Path;

use zeroize::Zeroizing;

use crate::cipher::{Cipher, KEY_BYTES, KeyBytes};
use crate::error::SealError;
use crate::keyring::KeyId;
use crate::wrapping::{Kind, fingerprint};

const MAGIC: &[u8; 4] = b"CRKR";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 4 + 4 + 1 + 8;
/// The body is sealed by the wrapping key, which has no id of its own.
const WRAPPING_KEY_ID: KeyId = 0;

/// The secrets of a ring, as stored.
pub(crate) struct StoredKeys {
    pub(crate) current: KeyId,
    pub(crate) keys: BTreeMap<KeyId, KeyBytes>,
}

pub(crate) fn encode(stored: &StoredKeys, kind: Kind, wrapping_key: &KeyBytes) -> Result<Vec<u8>, SealError> {
    let mut file = Vec::new();
    file.extend_from_slice(MAGIC);
    file.extend_from_slice(&VERSION.to_le_bytes());
    file.push(kind.to_byte());
    file.extend_from_slice(&fingerprint(wrapping_key));

    // The exact capacity keeps the vector from leaving unwiped copies of the keys behind while it grows.
    let mut body = Zeroizing::new(Vec::with_capacity(8 + stored.keys.len() * (4 + KEY_BYTES)));
    body.extend_from_slice(&stored.current.to_le_bytes());
    body.extend_from_slice(&u32::try_from(stored.keys.len()).map_err(|_| SealError::Full)?.to_le_bytes());
    for (key_id, key) in &stored.keys {
        body.extend_from_slice(&key_id.to_le_bytes());
        body.extend_from_slice(key.as_slice());
    }
    let header = file.clone();
    Cipher::new(WRAPPING_KEY_ID, wrapping_key)?.seal_into(&header, &body, &mut file)?;
    Ok(file)
}

/// Says who holds the wrapping key of a keyring file.
pub(crate) fn kind(path: &Path, file: &[u8]) -> Result<Kind, SealError> {
    let damaged = |what| SealError::DamagedFile { path: path.to_owned(), what };
    let rest = file.strip_prefix(MAGIC).ok_or_else(|| damaged("it does not start like a keyring"))?;
    let (version, rest) = rest.split_first_chunk::<4>().ok_or_else(|| damaged("it was cut off"))?;
    let found = u32::from_le_bytes(*version);
    if found > VERSION {
        return Err(SealError::NewerFormat { path: path.to_owned(), found, supported: VERSION });
    }
    let byte = *rest.first().ok_or_else(|| damaged("it was cut off"))?;
    Kind::from_byte(byte).ok_or_else(|| damaged("its kind of wrapping is unknown"))
}

pub(crate) fn decode(path: &Path, file: &[u8], wrapping_key: &KeyBytes) -> Result<StoredKeys, SealError> {
    let damaged = |what| SealError::DamagedFile { path: path.to_owned(), what };
    let kind = kind(path, file)?;
    let (header, sealed) = file.split_at_checked(HEADER_BYTES).ok_or_else(|| damaged("it was cut off"))?;
    if !header.ends_with(&fingerprint(wrapping_key)) {
        return Err(SealError::WrongWrappingKey { path: path.to_owned(), hint: kind.hint() });
    }
    let body = Cipher::new(WRAPPING_KEY_ID, wrapping_key)?
        .open(header, sealed)
        .map_err(|_| damaged("its content does not authenticate"))?;
    parse_body(&Zeroizing::new(body)).ok_or_else(|| damaged("its list of keys is malformed"))
}

fn parse_body(body: &[u8]) -> Option<StoredKeys> {
    let (current, rest) = body.split_first_chunk::<4>()?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let current = KeyId::from_le_bytes(*current);
    let mut keys = BTreeMap::new();
    while !rest.is_empty() {
        let (key_id, after) = rest.split_first_chunk::<4>()?;
        let (key, after) = after.split_first_chunk::<KEY_BYTES>()?;
        keys.insert(KeyId::from_le_bytes(*key_id), Zeroizing::new(*key));
        rest = after;
    }
    let complete =
        u32::try_from(keys.len()).ok()? == u32::from_le_bytes(*count) && keys.contains_key(&current);
    complete.then_some(StoredKeys { current, keys })
}
