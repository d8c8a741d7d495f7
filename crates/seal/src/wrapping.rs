//! Who holds the key that wraps the keyring: a file beside it, or the operator.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use aws_lc_rs::hmac;
use coracle_disk::{Storage, read_whole};
use zeroize::Zeroizing;

use crate::atomic::write_atomic;
use crate::cipher::{KEY_BYTES, KeyBytes, random_key};
use crate::error::SealError;

/// The file that holds the wrapping key while the keyring is not locked.
const FILE_NAME: &str = "wrapping-key";

/// The prefix of a printed unlock key; the number is the version of its form.
const UNLOCK_PREFIX: &str = "CORKEY-1-";

/// What wraps the data keys of a keyring.
#[derive(Debug, Clone)]
pub enum Wrapping {
    /// A random key in the file `wrapping-key` (mode 0600) beside the keyring: the node starts by itself.
    /// This protects copies of the data that were taken without that file.
    File,
    /// Autolock: the operator's key. The node cannot read its data before it is given.
    UnlockKey(UnlockKey),
}

/// An unlock key of 32 random bytes, shown as `CORKEY-1-` and 64 hexadecimal digits.
#[derive(Clone)]
pub struct UnlockKey(KeyBytes);

impl UnlockKey {
    /// Draws a new unlock key.
    ///
    /// # Errors
    /// [`SealError::Cryptography`] when there is no randomness.
    pub fn generate() -> Result<Self, SealError> {
        random_key().map(Self)
    }

    /// The text to show to the operator, once. It is wiped when dropped.
    #[must_use]
    pub fn reveal(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(UNLOCK_PREFIX.len() + 2 * KEY_BYTES));
        text.push_str(UNLOCK_PREFIX);
        for byte in self.0.iter() {
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
            }
        }
        text
    }
}

impl FromStr for UnlockKey {
    type Err = SealError;

    fn from_str(text: &str) -> Result<Self, SealError> {
        let digits = text.trim().strip_prefix(UNLOCK_PREFIX).ok_or(SealError::MalformedUnlockKey)?;
        if digits.len() != 2 * KEY_BYTES || !digits.is_ascii() {
            return Err(SealError::MalformedUnlockKey);
        }
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        for (byte, pair) in key.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
            *byte = (hexadecimal(pair[0])? << 4) | hexadecimal(pair[1])?;
        }
        Ok(Self(key))
    }
}

/// Shows that there is a key, never which.
impl fmt::Debug for UnlockKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("UnlockKey(..)")
    }
}

fn hexadecimal(digit: u8) -> Result<u8, SealError> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
        .ok_or(SealError::MalformedUnlockKey)
}

/// How a keyring file says who holds its wrapping key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    UnlockKey,
}

impl Kind {
    pub(crate) fn to_byte(self) -> u8 {
        match self {
            Self::File => 1,
            Self::UnlockKey => 2,
        }
    }

    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::File),
            2 => Some(Self::UnlockKey),
            _ => None,
        }
    }

    /// What an operator can do when the wrapping key turns out to be a different one.
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Self::File => {
                "the wrapping-key file beside it belongs to another keyring; restore both from the same backup"
            }
            Self::UnlockKey => "check that the unlock key is this cluster's current one",
        }
    }
}

impl Wrapping {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::File => Kind::File,
            Self::UnlockKey(_) => Kind::UnlockKey,
        }
    }

    /// The key for a keyring that exists already.
    pub(crate) fn existing_key(&self, storage: &dyn Storage) -> Result<KeyBytes, SealError> {
        match self {
            Self::UnlockKey(key) => Ok(key.0.clone()),
            Self::File => read_key_file(storage).map_err(|error| {
                if error.is_not_found() {
                    SealError::WrappingKeyMissing { path: file_path(storage) }
                } else {
                    error
                }
            }),
        }
    }

    /// The key for a keyring that is about to be written; draws and stores one when none is there.
    pub(crate) fn key_for_writing(&self, storage: &dyn Storage) -> Result<KeyBytes, SealError> {
        match self {
            Self::UnlockKey(key) => Ok(key.0.clone()),
            Self::File => match read_key_file(storage) {
                // A leftover of an interrupted creation: as good as a new one.
                Ok(key) => Ok(key),
                Err(error) if error.is_not_found() => {
                    let key = random_key()?;
                    write_atomic(storage, FILE_NAME, key.as_slice())?;
                    Ok(key)
                }
                Err(error) => Err(error),
            },
        }
    }
}

/// Removes the wrapping key file once the keyring no longer needs it.
pub(crate) fn remove_key_file(storage: &dyn Storage) -> Result<(), SealError> {
    match storage.remove(FILE_NAME) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(SealError::file("removing", &file_path(storage))(error))
        }
        _ => storage.sync_directory().map_err(SealError::file("syncing directory", storage.path())),
    }
}

fn file_path(storage: &dyn Storage) -> PathBuf {
    storage.path().join(FILE_NAME)
}

fn read_key_file(storage: &dyn Storage) -> Result<KeyBytes, SealError> {
    let path = file_path(storage);
    let bytes = Zeroizing::new(read_whole(storage, FILE_NAME).map_err(SealError::file("reading", &path))?);
    let key = <[u8; KEY_BYTES]>::try_from(bytes.as_slice())
        .map_err(|_| SealError::DamagedFile { path, what: "it is not 32 bytes long" })?;
    Ok(Zeroizing::new(key))
}

/// A short value that tells whether two wrapping keys are the same, and nothing else about them.
pub(crate) fn fingerprint(key: &KeyBytes) -> [u8; 8] {
    let signer = hmac::Key::new(hmac::HMAC_SHA256, key.as_slice());
    let tag = hmac::sign(&signer, b"coracle keyring wrapping key check 1");
    let mut short = [0; 8];
    short.copy_from_slice(&tag.as_ref()[..8]);
    short
}
