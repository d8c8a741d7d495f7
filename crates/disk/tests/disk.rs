//! The simulated disk behaves like a real directory while the power is on, and forgets what it should when it goes.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use coracle_disk::testing::{CrashStorage, Seeded};
use coracle_disk::{DiskStorage, Storage, read_whole};

/// All that some seed leaves of a disk: how the files' names and contents can look.
fn outcomes(storage: &CrashStorage) -> BTreeSet<Vec<(String, Vec<u8>)>> {
    (0..300)
        .map(|seed| {
            let after = storage.after_power_loss(seed);
            after.files().into_iter().map(|name| (name.clone(), after.content(&name).unwrap())).collect()
        })
        .collect()
}

fn synced(storage: &CrashStorage, name: &str, bytes: &[u8]) {
    let file = storage.create(name).unwrap();
    file.write_all_at(0, bytes).unwrap();
    file.sync_data().unwrap();
}

fn pair(name: &str, bytes: &[u8]) -> (String, Vec<u8>) {
    (name.to_owned(), bytes.to_vec())
}

#[test]
fn what_was_synced_stays_whatever_the_seed() {
    let storage = CrashStorage::new();
    synced(&storage, "a", b"content");
    storage.sync_directory().unwrap();
    assert_eq!(outcomes(&storage), BTreeSet::from([vec![pair("a", b"content")]]));
}

#[test]
fn a_synced_file_without_a_synced_name_may_be_gone() {
    let storage = CrashStorage::new();
    synced(&storage, "a", b"content");
    assert_eq!(outcomes(&storage), BTreeSet::from([vec![], vec![pair("a", b"content")]]));
}

#[test]
fn a_rename_that_was_not_synced_may_be_half_done() {
    let storage = CrashStorage::new();
    synced(&storage, "old", b"1");
    storage.sync_directory().unwrap();
    storage.rename("old", "new").unwrap();
    let (old, new) = (pair("old", b"1"), pair("new", b"1"));
    let expected = [vec![], vec![old.clone()], vec![new.clone()], vec![new.clone(), old]];
    assert_eq!(outcomes(&storage), BTreeSet::from(expected));
    storage.sync_directory().unwrap();
    assert_eq!(outcomes(&storage), BTreeSet::from([vec![new]]));
}

#[test]
fn a_name_that_is_replaced_means_the_old_or_the_new_file() {
    let storage = CrashStorage::new();
    synced(&storage, "name", b"old");
    storage.sync_directory().unwrap();
    synced(&storage, "temporary", b"new");
    storage.rename("temporary", "name").unwrap();
    for outcome in outcomes(&storage) {
        let found = outcome.iter().find(|(name, _)| name == "name").expect("it never disappears");
        assert!(found.1 == b"old" || found.1 == b"new");
    }
}

#[test]
fn a_removal_that_was_not_synced_may_be_undone() {
    let storage = CrashStorage::new();
    synced(&storage, "a", b"1");
    storage.sync_directory().unwrap();
    storage.remove("a").unwrap();
    assert_eq!(outcomes(&storage), BTreeSet::from([vec![], vec![pair("a", b"1")]]));
}

#[test]
fn a_write_that_was_not_synced_may_be_torn_between_sectors() {
    let storage = CrashStorage::new();
    synced(&storage, "a", &[1; 1024]);
    storage.sync_directory().unwrap();
    storage.open("a").unwrap().write_all_at(0, &[2; 1024]).unwrap();
    let found: BTreeSet<_> = outcomes(&storage)
        .into_iter()
        .map(|files| (files[0].1[0], files[0].1[511], files[0].1[512], files[0].1[1023]))
        .collect();
    let (old, new, first, second) = ((1, 1, 1, 1), (2, 2, 2, 2), (2, 2, 1, 1), (1, 1, 2, 2));
    assert_eq!(found, BTreeSet::from([old, new, first, second]));
}

#[test]
fn a_directory_is_there_as_soon_as_it_can_be_used() {
    let storage = CrashStorage::new();
    let inner = storage.subdirectory("inner").unwrap();
    let file = inner.create("a").unwrap();
    file.write_all_at(0, b"1").unwrap();
    file.sync_data().unwrap();
    inner.sync_directory().unwrap();
    assert_eq!(outcomes(&storage), BTreeSet::from([vec![pair("inner/a", b"1")]]));
}

#[test]
fn every_change_can_be_the_first_that_fails() {
    for changes in 0..6 {
        let storage = CrashStorage::new();
        storage.fail_after(changes);
        let work = || {
            let file = storage.create("a")?;
            file.write_all_at(0, b"1")?;
            file.sync_data()?;
            storage.rename("a", "b")?;
            storage.sync_directory()?;
            storage.remove("b")
        };
        assert!(work().is_err(), "after {changes}");
        assert_eq!(storage.changes(), changes + 1);
    }
}

#[test]
fn the_same_seed_leaves_the_same() {
    let storage = CrashStorage::new();
    for (nth, name) in ["x", "y", "z"].iter().enumerate() {
        storage.create(name).unwrap().write_all_at(0, &vec![nth as u8; 3000]).unwrap();
    }
    for seed in 0..50 {
        let (one, other) = (storage.after_power_loss(seed), storage.after_power_loss(seed));
        assert_eq!(one.files(), other.files());
        assert!(one.files().iter().all(|name| one.content(name) == other.content(name)));
    }
}

/// Does one random operation; returns all that can be seen of it.
fn step(storage: &dyn Storage, seeded: &mut Seeded) -> String {
    let kind = |error: std::io::Error| error.kind();
    let mut name = || ["a", "b", "c"][seeded.below(3) as usize];
    let (one, other) = (name(), name());
    let (choice, offset, length) = (seeded.below(8), seeded.below(2000), seeded.below(1500));
    match choice {
        0 => format!("{:?}", storage.create(one).map(|_| ()).map_err(kind)),
        1 => format!("{:?}", storage.remove(one).map_err(kind)),
        2 => format!("{:?}", storage.rename(one, other).map_err(kind)),
        3 => format!("{:?}", storage.sync_directory().map_err(kind)),
        4 => {
            let mut names = storage.list().unwrap();
            names.sort();
            format!("{names:?}")
        }
        5 => format!("{:?}", read_whole(storage, one).map_err(kind)),
        6 => format!("{:?}", storage.open(one).and_then(|file| file.truncate(length)).map_err(kind)),
        _ => {
            let bytes = vec![offset as u8; length as usize];
            let written = storage.open(one).and_then(|file| {
                file.write_all_at(offset, &bytes)?;
                let mut back = vec![0; 100];
                let read = file.read_exact_at(offset, &mut back).map(|()| back);
                Ok((file.length()?, read.map_err(kind)))
            });
            format!("{:?}", written.map_err(kind))
        }
    }
}

#[test]
fn while_the_power_is_on_it_is_like_a_directory() {
    for seed in 0..60 {
        let directory = tempfile::tempdir().unwrap();
        let disk = DiskStorage::open(directory.path()).unwrap();
        let simulated = CrashStorage::new();
        let (mut one, mut other) = (Seeded::new(seed), Seeded::new(seed));
        for nth in 0..60 {
            assert_eq!(step(&disk, &mut one), step(&simulated, &mut other), "seed {seed} step {nth}");
        }
    }
}

#[test]
fn a_directory_is_locked_by_one_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("not/there/yet");
    let held = DiskStorage::open(&path).unwrap();
    assert_eq!(DiskStorage::open(&path).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    held.release();
    let again = DiskStorage::open(&path).unwrap();
    drop(again);
    DiskStorage::open(&path).unwrap();
}
