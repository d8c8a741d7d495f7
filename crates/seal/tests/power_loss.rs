//! Whenever the power goes while keys are written: the ring opens, with every key that was confirmed. Damaged key files are
//! refused with what to do.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use coracle_disk::testing::CrashStorage;
use coracle_seal::{KeyRing, SealError, UnlockKey, Wrapping, read_sealed, write_sealed};

/// What was promised: values sealed by confirmed keys, and the content of a file.
#[derive(Default)]
struct Promised {
    sealed: Vec<Vec<u8>>,
    file: u8,
}

fn open(storage: &CrashStorage, wrapping: &Wrapping) -> Result<KeyRing, SealError> {
    KeyRing::open_or_create_in(Arc::new(storage.clone()), wrapping)
}

/// Changes the ring in every way.
fn script(storage: &CrashStorage, unlock: &UnlockKey, promised: &mut Promised) -> Result<(), SealError> {
    let ring = open(storage, &Wrapping::File)?;
    promised.sealed.push(ring.seal(b"value", b"first")?);
    write_sealed(&ring, storage, "file", b"file", &[1])?;
    promised.file = 1;
    ring.rotate()?;
    promised.sealed.push(ring.seal(b"value", b"second")?);
    ring.rewrap(&Wrapping::UnlockKey(unlock.clone()))?;
    ring.rotate()?;
    promised.sealed.push(ring.seal(b"value", b"third")?);
    write_sealed(&ring, storage, "file", b"file", &[2])?;
    promised.file = 2;
    ring.rewrap(&Wrapping::File)?;
    ring.rotate()?;
    promised.sealed.push(ring.seal(b"value", b"fourth")?);
    Ok(())
}

#[test]
fn a_power_loss_at_every_change_leaves_a_ring_with_all_confirmed_keys() {
    let unlock = UnlockKey::generate().unwrap();
    let whole = CrashStorage::new();
    script(&whole, &unlock, &mut Promised::default()).unwrap();
    assert!(whole.changes() > 40, "{}", whole.changes());
    for changes in 0..=whole.changes() {
        let storage = CrashStorage::new();
        storage.fail_after(changes);
        let mut promised = Promised::default();
        let _ = script(&storage, &unlock, &mut promised);
        for seed in 0..12 {
            let what = format!("power gone after {changes} changes, seed {seed}");
            let left = storage.after_power_loss(seed);
            // As a daemon does: the unlock key is asked for only when the ring is locked.
            let ring = match open(&left, &Wrapping::File) {
                Err(SealError::Locked { .. }) => open(&left, &Wrapping::UnlockKey(unlock.clone())),
                other => other,
            };
            let ring = ring.unwrap_or_else(|error| panic!("{what}: {error}"));
            for sealed in &promised.sealed {
                assert!(ring.open(b"value", sealed).is_ok(), "{what}: a key is gone");
            }
            match read_sealed(&ring, &left, "file", b"file") {
                Ok(content) => assert!(content[0] >= promised.file, "{what}: an older file is back"),
                Err(error) => assert!(error.is_not_found() && promised.file == 0, "{what}: {error}"),
            }
        }
    }
}

/// A file with every bit flipped, cut at every byte, and with holes of several sizes at every position.
fn damages(content: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut damages = Vec::new();
    for position in 0..content.len() {
        damages.push((format!("cut at {position}"), content[..position].to_vec()));
        for bit in 0..8 {
            let mut bytes = content.to_vec();
            bytes[position] ^= 1 << bit;
            damages.push((format!("bit {bit} of byte {position}"), bytes));
        }
        for length in [1, 16, 512] {
            let mut bytes = content.to_vec();
            let end = bytes.len().min(position + length);
            bytes[position..end].fill(0);
            damages.push((format!("a hole of {length} at {position}"), bytes));
        }
    }
    damages.retain(|(_, bytes)| bytes != content);
    damages
}

#[test]
fn damaged_key_files_are_refused_with_what_to_do() {
    let storage = CrashStorage::new();
    open(&storage, &Wrapping::File).unwrap();
    for name in ["keyring", "wrapping-key"] {
        for (what, bytes) in damages(&storage.content(name).unwrap()) {
            let copy = storage.after_process_crash();
            copy.replace(name, bytes);
            let error = open(&copy, &Wrapping::File).err();
            let text = error.unwrap_or_else(|| panic!("{name}: {what} was taken")).to_string();
            let remedies = ["restore", "give the unlock key", "use the newer program"];
            let helps = remedies.iter().any(|remedy| text.contains(remedy));
            assert!(helps && text.contains("/simulated/"), "{name}: {what}: {text}");
        }
    }
}
