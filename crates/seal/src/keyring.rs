//! The data keys of one node.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use coracle_disk::{DiskStorage, Storage, read_whole};

use crate::atomic::write_atomic;
use crate::cipher::{Cipher, random_key, split_key_id};
use crate::error::SealError;
use crate::stored::{self, StoredKeys};
use crate::wrapping::{Kind, Wrapping, remove_key_file};

/// Names a data key within one ring. Ids are never used twice.
pub type KeyId = u32;

/// The id of the first key of a ring.
const FIRST_KEY: KeyId = 1;

/// The file that holds the wrapped data keys.
const FILE_NAME: &str = "keyring";

/// The data keys of one node; a clone is another handle to the same ring.
#[derive(Clone)]
pub struct KeyRing {
    shared: Arc<RwLock<Shared>>,
}

struct Shared {
    stored: StoredKeys,
    ciphers: BTreeMap<KeyId, Cipher>,
    /// Where the ring is kept and what wraps it; `None` for a ring in memory.
    home: Option<Home>,
}

struct Home {
    storage: Arc<dyn Storage>,
    wrapping: Wrapping,
}

impl KeyRing {
    /// Opens the ring in `directory`, or creates the directory and a ring wrapped by a key file.
    ///
    /// # Errors
    /// [`SealError::Locked`] when the ring is locked by an unlock key; [`SealError::WrongWrappingKey`],
    /// [`SealError::WrappingKeyMissing`] or [`SealError::DamagedFile`] when it cannot be read.
    pub fn open_or_create(directory: &Path) -> Result<Self, SealError> {
        Self::open_or_create_with(directory, &Wrapping::File)
    }

    /// Opens the ring in `directory` with the given wrapping, or creates it so.
    ///
    /// A ring that is wrapped by a key file opens with [`Wrapping::UnlockKey`] too: the key is not needed then.
    ///
    /// # Errors
    /// As [`KeyRing::open_or_create`].
    pub fn open_or_create_with(directory: &Path, wrapping: &Wrapping) -> Result<Self, SealError> {
        let storage =
            DiskStorage::unlocked(directory).map_err(SealError::file("opening directory", directory))?;
        Self::open_or_create_in(Arc::new(storage), wrapping)
    }

    /// Like [`KeyRing::open_or_create_with`], for a ring in any storage.
    ///
    /// # Errors
    /// As [`KeyRing::open_or_create`].
    pub fn open_or_create_in(storage: Arc<dyn Storage>, wrapping: &Wrapping) -> Result<Self, SealError> {
        match read_whole(&*storage, FILE_NAME) {
            Ok(file) => Self::open_file(storage, &file, wrapping),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::create(storage, wrapping),
            Err(error) => Err(SealError::file("reading", &storage.path().join(FILE_NAME))(error)),
        }
    }

    /// A ring with one random key that is never stored, for tests and for data that need not outlive the process.
    ///
    /// # Errors
    /// [`SealError::Cryptography`] when there is no randomness.
    pub fn in_memory() -> Result<Self, SealError> {
        Self::from_parts(first_key()?, None)
    }

    fn open_file(storage: Arc<dyn Storage>, file: &[u8], wrapping: &Wrapping) -> Result<Self, SealError> {
        let path = storage.path().join(FILE_NAME);
        let wrapping = match (stored::kind(&path, file)?, wrapping) {
            (Kind::UnlockKey, Wrapping::File) => return Err(SealError::Locked { path }),
            (Kind::UnlockKey, given @ Wrapping::UnlockKey(_)) => given.clone(),
            (Kind::File, _) => Wrapping::File,
        };
        let stored = stored::decode(&path, file, &wrapping.existing_key(&*storage)?)?;
        Self::from_parts(stored, Some(Home { storage, wrapping }))
    }

    fn create(storage: Arc<dyn Storage>, wrapping: &Wrapping) -> Result<Self, SealError> {
        let home = Home { storage, wrapping: wrapping.clone() };
        let stored = first_key()?;
        save(&stored, &home)?;
        Self::from_parts(stored, Some(home))
    }

    fn from_parts(stored: StoredKeys, home: Option<Home>) -> Result<Self, SealError> {
        let ciphers = stored
            .keys
            .iter()
            .map(|(key_id, key)| Ok((*key_id, Cipher::new(*key_id, key)?)))
            .collect::<Result<_, SealError>>()?;
        Ok(Self { shared: Arc::new(RwLock::new(Shared { stored, ciphers, home })) })
    }

    /// Seals `plaintext` for the place that `aad` names, with the current key.
    ///
    /// The result is [`crate::OVERHEAD`] bytes longer: key id, nonce, ciphertext, tag.
    ///
    /// # Errors
    /// [`SealError::Cryptography`] when there is no randomness.
    pub fn seal(&self, aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut sealed = Vec::with_capacity(plaintext.len() + crate::OVERHEAD);
        self.seal_into(aad, plaintext, &mut sealed)?;
        Ok(sealed)
    }

    /// Like [`KeyRing::seal`], but appends to `out`.
    ///
    /// # Errors
    /// As [`KeyRing::seal`]; `out` then has an undefined tail.
    pub fn seal_into(&self, aad: &[u8], plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), SealError> {
        let shared = self.read();
        let key_id = shared.stored.current;
        shared.ciphers.get(&key_id).ok_or(SealError::UnknownKey { key_id })?.seal_into(aad, plaintext, out)
    }

    /// Opens what [`KeyRing::seal`] made for the same `aad`.
    ///
    /// # Errors
    /// [`SealError::Short`], [`SealError::UnknownKey`] or [`SealError::Damaged`].
    pub fn open(&self, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let (key_id, _) = split_key_id(sealed)?;
        self.read().ciphers.get(&key_id).ok_or(SealError::UnknownKey { key_id })?.open(aad, sealed)
    }

    /// The id of the key that seals new values.
    #[must_use]
    pub fn current_key_id(&self) -> KeyId {
        self.read().stored.current
    }

    /// Adds a new key, saves the ring, and seals with the new key from then on. Older keys stay, to open older values.
    ///
    /// # Errors
    /// A failed save leaves the ring as it was.
    pub fn rotate(&self) -> Result<KeyId, SealError> {
        let mut shared = self.write();
        let key_id =
            shared.stored.keys.keys().last().copied().unwrap_or(0).checked_add(1).ok_or(SealError::Full)?;
        let key = random_key()?;
        let cipher = Cipher::new(key_id, &key)?;
        let mut keys = shared.stored.keys.clone();
        keys.insert(key_id, key);
        shared.replace(StoredKeys { current: key_id, keys })?;
        shared.ciphers.insert(key_id, cipher);
        Ok(key_id)
    }

    /// Forgets the keys older than `oldest_needed`, once nothing on disk is sealed with them any more.
    ///
    /// # Errors
    /// A failed save leaves the ring as it was.
    pub fn forget_before(&self, oldest_needed: KeyId) -> Result<(), SealError> {
        let mut shared = self.write();
        let current = shared.stored.current;
        let mut keys = shared.stored.keys.clone();
        keys.retain(|key_id, _| *key_id >= oldest_needed || *key_id == current);
        shared.replace(StoredKeys { current, keys })?;
        let Shared { stored, ciphers, .. } = &mut *shared;
        ciphers.retain(|key_id, _| stored.keys.contains_key(key_id));
        Ok(())
    }

    /// Wraps the ring in another way: this is what autolock switches and what a new unlock key is given by.
    ///
    /// # Errors
    /// [`SealError::NotStored`] for a ring in memory; a failed save leaves the ring as it was.
    pub fn rewrap(&self, wrapping: &Wrapping) -> Result<(), SealError> {
        let mut shared = self.write();
        let Some(home) = &shared.home else { return Err(SealError::NotStored { action: "wrapped" }) };
        let home = Home { storage: home.storage.clone(), wrapping: wrapping.clone() };
        save(&shared.stored, &home)?;
        if home.wrapping.kind() == Kind::UnlockKey {
            // Only now: until the rename above, the old ring needed this file.
            remove_key_file(&*home.storage)?;
        }
        shared.home = Some(home);
        Ok(())
    }

    /// Whether the operator's unlock key is needed to open this ring.
    #[must_use]
    pub fn is_locked_by_operator(&self) -> bool {
        self.read().home.as_ref().is_some_and(|home| home.wrapping.kind() == Kind::UnlockKey)
    }

    fn read(&self) -> RwLockReadGuard<'_, Shared> {
        // A panic cannot leave the ring half changed: every change is one assignment after the save.
        self.shared.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Shared> {
        self.shared.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn replace(&mut self, stored: StoredKeys) -> Result<(), SealError> {
        if let Some(home) = &self.home {
            save(&stored, home)?;
        }
        self.stored = stored;
        Ok(())
    }
}

/// Shows which keys there are, never their bytes.
impl fmt::Debug for KeyRing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = self.read();
        formatter
            .debug_struct("KeyRing")
            .field("current", &shared.stored.current)
            .field("key_ids", &shared.stored.keys.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

fn first_key() -> Result<StoredKeys, SealError> {
    Ok(StoredKeys { current: FIRST_KEY, keys: BTreeMap::from([(FIRST_KEY, random_key()?)]) })
}

fn save(stored: &StoredKeys, home: &Home) -> Result<(), SealError> {
    coracle_crash_point::crash_point!("key-ring.before-write");
    let wrapping_key = home.wrapping.key_for_writing(&*home.storage)?;
    coracle_crash_point::crash_point!("key-ring.after-wrapping-key");
    let file = stored::encode(stored, home.wrapping.kind(), &wrapping_key)?;
    write_atomic(&*home.storage, FILE_NAME, &file)?;
    coracle_crash_point::crash_point!("key-ring.after-write");
    Ok(())
}

#[cfg(test)]
mod tests;
