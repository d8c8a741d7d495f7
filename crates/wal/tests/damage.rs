//! Damage to what was confirmed is refused, whichever bit it hits.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::mpsc;

use bytes::Bytes;
use coracle_seal::KeyRing;
use coracle_wal::testing::CrashStorage;
use coracle_wal::{Entry, Log, Options, Purged, WalError};

fn options() -> Options {
    Options { segment_bytes: 480, ..Options::default() }
}

fn entry(index: u64) -> Entry {
    Entry { index, term: 3, payload: Bytes::from(format!("payload of entry {index}")) }
}

fn append(log: &Log, index: u64) {
    let (sender, receiver) = mpsc::channel();
    log.append(vec![entry(index)], Box::new(move |result| sender.send(result).unwrap())).unwrap();
    receiver.recv().unwrap().unwrap();
}

fn vote(log: &Log, vote: &'static str) {
    let (sender, receiver) = mpsc::channel();
    log.save_vote(vote.into(), Box::new(move |result| sender.send(result).unwrap())).unwrap();
    receiver.recv().unwrap().unwrap();
}

/// A log of three segments, each operation in a batch of its own.
fn written(ring: &KeyRing) -> CrashStorage {
    let storage = CrashStorage::new();
    let log = Log::open(storage.clone(), ring.clone(), &options()).unwrap();
    vote(&log, "first vote");
    for index in 0..8 {
        append(&log, index);
    }
    vote(&log, "second vote");
    append(&log, 8);
    assert_eq!(log.stats().segments, 3);
    drop(log);
    storage
}

fn all_is_there(log: &Log) -> bool {
    log.vote().as_deref() == Some(b"second vote".as_slice())
        && log.stats().next_index == 9
        && log.read(0, 9, usize::MAX).is_ok_and(|entries| entries == (0..9).map(entry).collect::<Vec<_>>())
}

fn files() -> [&'static str; 4] {
    ["fence", "0000000000000001.wal", "0000000000000002.wal", "0000000000000003.wal"]
}

#[test]
fn every_flipped_bit_is_refused_or_harmless() {
    let ring = KeyRing::in_memory().unwrap();
    let original = written(&ring);
    let mut refused = 0;
    for name in files() {
        let content = original.content(name).unwrap();
        for bit in 0..content.len() * 8 {
            let storage = original.after_process_crash();
            let mut damaged = content.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            storage.replace(name, damaged);
            match Log::open(storage, ring.clone(), &options()) {
                Ok(log) => assert!(all_is_there(&log), "{name} bit {bit}: opened, but something is missing"),
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 10_000, "{refused}");
}

#[test]
fn every_cut_is_refused_or_harmless() {
    let ring = KeyRing::in_memory().unwrap();
    let original = written(&ring);
    for name in files() {
        let content = original.content(name).unwrap();
        for length in 0..content.len() {
            let storage = original.after_process_crash();
            storage.replace(name, content[..length].to_vec());
            let opened = Log::open(storage, ring.clone(), &options());
            assert!(opened.is_err(), "{name} cut to {length} bytes was opened");
        }
    }
}

#[test]
fn every_hole_of_zeroes_is_refused_or_harmless() {
    let ring = KeyRing::in_memory().unwrap();
    let original = written(&ring);
    let mut refused = 0;
    for name in files() {
        let content = original.content(name).unwrap();
        for position in (0..content.len()).step_by(3) {
            for length in [1, 16, 100, 512] {
                let storage = original.after_process_crash();
                let mut damaged = content.clone();
                let end = damaged.len().min(position + length);
                damaged[position..end].fill(0);
                storage.replace(name, damaged);
                match Log::open(storage, ring.clone(), &options()) {
                    Ok(log) => assert!(all_is_there(&log), "{name}: hole of {length} at {position}"),
                    Err(_) => refused += 1,
                }
            }
        }
    }
    assert!(refused > 1500, "{refused}");
}

#[test]
fn every_missing_file_is_refused() {
    use coracle_wal::Storage as _;
    let ring = KeyRing::in_memory().unwrap();
    for name in files() {
        let storage = written(&ring);
        storage.remove(name).unwrap();
        assert!(Log::open(storage, ring.clone(), &options()).is_err(), "{name}");
    }
}

#[test]
fn zeroed_stretches_are_refused_even_when_the_fence_is_old() {
    let ring = KeyRing::in_memory().unwrap();
    let storage = CrashStorage::new();
    let log = Log::open(storage.clone(), ring.clone(), &Options::default()).unwrap();
    let old_fence = storage.content("fence").unwrap();
    for index in 0..6 {
        append(&log, index);
    }
    drop(log);
    let name = "0000000000000001.wal";
    let content = storage.content(name).unwrap();
    // Everything but the last batch is proved by the batches behind it; one record is 52 + 32 + 18 bytes.
    let last = content.len() - 102;
    for start in (0..last - 40).step_by(7) {
        let copy = storage.after_process_crash();
        copy.replace("fence", old_fence.clone());
        let mut damaged = content.clone();
        damaged[start..start + 40].fill(0);
        copy.replace(name, damaged);
        let opened = Log::open(copy, ring.clone(), &Options::default());
        assert!(matches!(opened, Err(WalError::Damaged { .. })), "hole at {start}");
    }
}

#[test]
fn another_keyring_is_refused() {
    let storage = written(&KeyRing::in_memory().unwrap());
    let opened = Log::open(storage, KeyRing::in_memory().unwrap(), &options());
    assert!(matches!(opened, Err(WalError::Seal { .. })));
}

#[test]
fn damage_after_the_start_is_noticed_when_read() {
    let ring = KeyRing::in_memory().unwrap();
    let storage = written(&ring);
    let log = Log::open(storage.clone(), ring, &Options { cache_bytes: 0, ..options() }).unwrap();
    let name = "0000000000000001.wal";
    let mut content = storage.content(name).unwrap();
    let at = content.len() - 5;
    content[at] ^= 1;
    storage.replace(name, content);
    assert!(log.read(0, 9, usize::MAX).is_err());
}

#[test]
fn covered_files_go_and_the_rest_is_complete() {
    let ring = KeyRing::in_memory().unwrap();
    let storage = written(&ring);
    let log = Log::open(storage.clone(), ring.clone(), &options()).unwrap();
    log.purge(Purged { index: 7, term: 3 }).unwrap();
    append(&log, 9);
    drop(log);
    assert!(storage.content("0000000000000001.wal").is_none());
    let log = Log::open(storage.clone(), ring.clone(), &options()).unwrap();
    assert_eq!(log.purged(), Some(Purged { index: 7, term: 3 }));
    assert_eq!((log.stats().first_index, log.stats().next_index), (8, 10));
    assert_eq!(log.vote().as_deref(), Some(b"second vote".as_slice()));
    assert!(matches!(log.read(7, 9, 1), Err(WalError::NotHeld { index: 7, first: 8, next: 10 })));
    assert_eq!(log.read(8, 10, 1).unwrap(), [entry(8)]);
    drop(log);
    // The oldest file left cannot go unnoticed either: entry 8 is in it.
    use coracle_wal::Storage as _;
    let mut names = storage.list().unwrap();
    names.sort();
    let oldest = names.iter().find(|name| name.ends_with(".wal")).unwrap().clone();
    storage.remove(&oldest).unwrap();
    assert!(Log::open(storage, ring, &options()).is_err());
}
