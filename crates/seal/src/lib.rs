//! Sealing at rest: everything a daemon writes to its disk is encrypted and authenticated.
//!
//! A [`KeyRing`] holds the data keys of one node. Each sealed value starts with the id of its key, so
//! that keys can be rotated without rewriting what is already there. The ring itself is stored wrapped
//! (encrypted) by a wrapping key: a file beside it, or, with autolock, a key that only the operator holds
//! ([`Wrapping`]).
//!
//! The cipher is AES-256-GCM-SIV (RFC 8452) with random nonces: two equal nonces under one key would only
//! reveal that two messages are equal, where plain GCM would lose its authentication key. That matters
//! here, because a virtual machine that is restored from a snapshot can draw the same random numbers again.
//!
//! Associated data binds a value to its place (which log, which record, which file), so that sealed bytes
//! cannot be moved elsewhere unnoticed.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod atomic;
mod cipher;
mod error;
mod file;
mod keyring;
mod stored;
mod wrapping;

pub use cipher::{KEY_BYTES, OVERHEAD};
pub use error::SealError;
pub use file::{read_sealed, read_sealed_file, write_sealed, write_sealed_file};
pub use keyring::{KeyId, KeyRing};
pub use wrapping::{UnlockKey, Wrapping};
