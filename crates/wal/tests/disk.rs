//! The log on a real file system.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::mpsc;

use bytes::Bytes;
use coracle_seal::KeyRing;
use coracle_wal::{DiskStorage, Entry, Log, Options, WalError};

fn entries(from: u64, count: u64, size: usize) -> Vec<Entry> {
    (from..from + count)
        .map(|index| Entry { index, term: 1, payload: Bytes::from(vec![index as u8; size]) })
        .collect()
}

fn append(log: &Log, entries: Vec<Entry>) {
    let (sender, receiver) = mpsc::channel();
    log.append(entries, Box::new(move |result| sender.send(result).unwrap())).unwrap();
    receiver.recv().unwrap().unwrap();
}

#[test]
fn entries_are_there_after_reopening_also_beyond_the_cache() {
    let directory = tempfile::tempdir().unwrap();
    let ring = KeyRing::in_memory().unwrap();
    let options = Options { segment_bytes: 64 << 10, cache_bytes: 10 << 10, ..Options::default() };
    let path = directory.path().join("log");
    let log = Log::open(DiskStorage::open(&path).unwrap(), ring.clone(), &options).unwrap();
    for nth in 0..30 {
        append(&log, entries(nth * 10, 10, 1000));
    }
    assert!(log.stats().segments > 3);
    assert_eq!(log.read(0, 300, usize::MAX).unwrap(), entries(0, 300, 1000));
    drop(log);
    let log = Log::open(DiskStorage::open(&path).unwrap(), ring, &options).unwrap();
    assert_eq!(log.read(0, 300, usize::MAX).unwrap(), entries(0, 300, 1000));
    assert_eq!(log.read(5, 300, 2500).unwrap().len(), 2, "bounded in bytes");
    assert_eq!(log.last(), Some((299, 1)));
    assert!(log.bytes_after(Some(199)) >= 100 * 1000);
    assert!(log.space().unwrap().free > 0);
}

#[test]
fn a_log_is_open_in_one_place_only() {
    let directory = tempfile::tempdir().unwrap();
    let held = DiskStorage::open(directory.path()).unwrap();
    assert_eq!(DiskStorage::open(directory.path()).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    drop(held);
    DiskStorage::open(directory.path()).unwrap();
}

#[test]
fn operations_in_flight_share_a_sync() {
    let directory = tempfile::tempdir().unwrap();
    let storage = DiskStorage::open(directory.path()).unwrap();
    let log = Log::open(storage, KeyRing::in_memory().unwrap(), &Options::default()).unwrap();
    let (sender, receiver) = mpsc::channel();
    for index in 0..2000 {
        let sender = sender.clone();
        log.append(entries(index, 1, 100), Box::new(move |result| sender.send(result).unwrap())).unwrap();
    }
    for _ in 0..2000 {
        receiver.recv().unwrap().unwrap();
    }
    assert!(log.stats().syncs < 1000, "{:?}", log.stats());
}

#[test]
fn a_gap_and_a_closed_log_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let storage = DiskStorage::open(directory.path()).unwrap();
    let log = Log::open(storage, KeyRing::in_memory().unwrap(), &Options::default()).unwrap();
    let refused = log.append(entries(1, 1, 1), Box::new(|_| {}));
    assert!(matches!(refused, Err(WalError::NotConsecutive { index: 1, expected: 0 })));
    log.close();
    assert!(matches!(log.append(entries(0, 1, 1), Box::new(|_| {})), Err(WalError::Closed)));
    DiskStorage::open(directory.path()).expect("a closed log does not keep others out");
}
