//! Damaged files: the start is refused with an error that says what to do, or comes up with everything.

use std::error::Error as _;
use std::fs;

use coracle_disk::DiskStorage;

use super::*;

/// A manager with two snapshots, a vote, and entries behind the older one.
fn written(ring: &KeyRing) -> (CrashStorage, State) {
    let storage = CrashStorage::new();
    let files = open(&storage, ring).unwrap();
    let mut state = State::default();
    let vote = Bytes::from_static(b"the vote");
    durably(|done| files.log.save_vote(vote.clone(), done)).unwrap();
    state.vote = Some(vote);
    for index in 0..10 {
        let new = entry(index, 2, 10);
        durably(|done| files.log.append(vec![new.clone()], done)).unwrap();
        state.entries.push((new.term, new.payload));
    }
    snapshot(&files.snapshots, &state, 4).unwrap();
    purge(&files.log, &state, 3).unwrap();
    snapshot(&files.snapshots, &state, 7).unwrap();
    drop(files);
    (storage, state)
}

/// What an operator is told: the error with its causes.
fn told(error: &RaftStartError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Opens a damaged copy. Either all is there, or the refusal names the file or its directory, and what to do.
fn check(damaged: &CrashStorage, ring: &KeyRing, state: &State, file: &str, what: &str) -> bool {
    match open(damaged, ring) {
        Ok(files) => {
            assert!(State::read(&files) == *state, "{what}: opened, but not all is there");
            true
        }
        Err(error) => {
            let text = told(&error);
            let (directory, name) = file.rsplit_once('/').unwrap_or(("", file));
            let named = text.contains(name) || (!directory.is_empty() && text.contains(directory));
            assert!(named, "{what}: no file is named: {text}");
            let remedy = ["restore", "use the newer program"].iter().any(|word| text.contains(word));
            assert!(remedy, "{what}: it is not said what to do: {text}");
            false
        }
    }
}

/// All files, the snapshots' by their age.
fn files(storage: &CrashStorage) -> Vec<String> {
    let mut names = storage.files();
    names.sort();
    assert!(names.iter().any(|name| name == "identity") && names.iter().any(|name| name == "log/fence"));
    assert_eq!(names.iter().filter(|name| name.starts_with("snapshots/")).count(), 2, "{names:?}");
    names
}

/// Each damage to each file by itself; the number of refused starts by file.
fn damage_each(
    step: usize,
    damages: impl Fn(&[u8], usize) -> Vec<(String, Vec<u8>)>,
) -> Vec<(String, usize)> {
    let ring = KeyRing::in_memory().unwrap();
    let (original, state) = written(&ring);
    files(&original)
        .into_iter()
        .map(|name| {
            let content = original.content(&name).unwrap();
            let mut refused = 0;
            for position in (0..content.len()).step_by(step) {
                for (what, bytes) in damages(&content, position) {
                    let copy = original.after_process_crash();
                    copy.replace(&name, bytes);
                    let what = format!("{name}, {what} at {position}");
                    refused += usize::from(!check(&copy, &ring, &state, &name, &what));
                }
            }
            (name, refused)
        })
        .collect()
}

fn refused_of(refused: &[(String, usize)], prefix: &str) -> usize {
    refused.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, count)| count).sum()
}

#[test]
fn every_flipped_bit_is_refused_or_harmless() {
    let refused = damage_each(1, |content, position| {
        // All bits in turn where it is cheap, the others rotate through the positions.
        let bits = if content.len() < 300 { 0..8 } else { position % 8..position % 8 + 1 };
        bits.map(|bit| {
            let mut bytes = content.to_vec();
            bytes[position] ^= 1 << bit;
            (format!("bit {bit}"), bytes)
        })
        .collect()
    });
    assert!(refused_of(&refused, "identity") > 300 && refused_of(&refused, "log/") > 1000, "{refused:?}");
    // There are two, and the log still has what is behind the older one.
    assert_eq!(refused_of(&refused, "snapshots/"), 0, "{refused:?}");
}

#[test]
fn every_cut_is_refused_or_harmless() {
    let refused = damage_each(1, |content, position| vec![("cut".to_owned(), content[..position].to_vec())]);
    assert!(refused_of(&refused, "identity") > 40 && refused_of(&refused, "log/") > 1000, "{refused:?}");
    assert_eq!(refused_of(&refused, "snapshots/"), 0, "{refused:?}");
}

#[test]
fn zeroed_stretches_are_refused_or_harmless() {
    let refused = damage_each(7, |content, position| {
        [1, 16, 100, 512, 4096]
            .into_iter()
            .map(|length| {
                let mut bytes = content.to_vec();
                let end = bytes.len().min(position + length);
                bytes[position..end].fill(0);
                (format!("a hole of {length}"), bytes)
            })
            .collect()
    });
    assert!(refused_of(&refused, "log/") > 500, "{refused:?}");
    assert_eq!(refused_of(&refused, "snapshots/"), 0, "{refused:?}");
}

#[test]
fn a_manager_whose_only_fitting_snapshot_is_damaged_is_refused() {
    let ring = KeyRing::in_memory().unwrap();
    let (original, state) = written(&ring);
    {
        let files = open(&original, &ring).unwrap();
        purge(&files.log, &state, 6).unwrap();
    }
    let newest = files(&original).pop().unwrap();
    let content = original.content(&newest).unwrap();
    for position in 0..content.len() {
        let mut flipped = content.clone();
        flipped[position] ^= 1 << (position % 8);
        for (what, bytes) in [("flipped", flipped), ("cut", content[..position].to_vec())] {
            let copy = original.after_process_crash();
            copy.replace(&newest, bytes);
            let opened = check(&copy, &ring, &state, &newest, &format!("{what} at {position}"));
            assert!(!opened, "{what} at {position}: nothing covers the entries that were dropped");
        }
    }
}

#[test]
fn missing_files_are_refused_or_harmless() {
    let ring = KeyRing::in_memory().unwrap();
    let (original, state) = written(&ring);
    for name in files(&original) {
        let copy = original.after_process_crash();
        copy.forget(&name);
        let opened = check(&copy, &ring, &state, &name, &format!("without {name}"));
        // Without an identity the directory looks as if a first start was interrupted, and nothing is lost.
        assert_eq!(opened, name == "identity" || name.starts_with("snapshots/"), "{name}");
    }
    let copy = original.after_process_crash();
    files(&original).iter().filter(|name| name.starts_with("log/")).for_each(|name| copy.forget(name));
    let error = open(&copy, &ring).unwrap_err();
    assert!(matches!(error, RaftStartError::LogLost { .. }), "{error:?}");
    let copy = original.after_process_crash();
    files(&original).iter().filter(|name| name.starts_with("snapshots/")).for_each(|name| copy.forget(name));
    let error = open(&copy, &ring).unwrap_err();
    assert!(matches!(error, RaftStartError::SnapshotMissing { .. }), "{error:?}");
}

#[test]
fn several_damaged_snapshots_are_all_set_aside_while_the_log_is_whole() {
    let ring = KeyRing::in_memory().unwrap();
    let storage = CrashStorage::new();
    let mut state = State::default();
    {
        let files = open(&storage, &ring).unwrap();
        for index in 0..6 {
            let new = entry(index, 2, 10);
            durably(|done| files.log.append(vec![new.clone()], done)).unwrap();
            state.entries.push((new.term, new.payload));
        }
        snapshot(&files.snapshots, &state, 4).unwrap();
        snapshot(&files.snapshots, &state, 6).unwrap();
    }
    for name in storage.files().iter().filter(|name| name.starts_with("snapshots/")) {
        storage.replace(name, b"garbage".to_vec());
    }
    let files = open(&storage, &ring).unwrap();
    assert!(State::read(&files) == state);
    // A new one is older by name than those, and must not be taken for one that can go.
    snapshot(&files.snapshots, &state, 2).unwrap();
    assert_eq!(snapshot_content(&files.snapshots).len(), 2);
    drop(files);
    assert!(State::read(&open(&storage, &ring).unwrap()) == state);
}

#[test]
fn a_large_snapshot_is_checked_everywhere() {
    let ring = KeyRing::in_memory().unwrap();
    let storage = CrashStorage::new();
    let mut state = State::default();
    for index in 0..3000 {
        let new = entry(index, 2, 1000);
        state.entries.push((new.term, new.payload));
    }
    {
        let files = open(&storage, &ring).unwrap();
        snapshot(&files.snapshots, &state, 3000).unwrap();
        purge(&files.log, &state, 3000).unwrap();
    }
    let name = files_of_snapshots(&storage).remove(0);
    let content = storage.content(&name).unwrap();
    assert!(content.len() > 3_000_000);
    let mut seeded = coracle_disk::testing::Seeded::new(1);
    for _ in 0..12 {
        let position = seeded.below(content.len() as u64) as usize;
        let mut flipped = content.clone();
        flipped[position] ^= 1 << seeded.below(8);
        let mut hole = content.clone();
        let end = hole.len().min(position + 4096);
        hole[position..end].fill(0);
        for bytes in [flipped, hole, content[..position].to_vec()] {
            let copy = storage.after_process_crash();
            copy.replace(&name, bytes);
            assert!(!check(&copy, &ring, &state, &name, &format!("damaged at {position}")));
        }
    }
}

fn files_of_snapshots(storage: &CrashStorage) -> Vec<String> {
    storage.files().into_iter().filter(|name| name.starts_with("snapshots/")).collect()
}

#[test]
fn a_directory_in_use_and_one_of_another_manager_are_refused() {
    let ring = KeyRing::in_memory().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let root = DiskStorage::unlocked(directory.path()).unwrap();
    let held = Files::open(&root, &ring, &identity(), &options()).unwrap();
    let error = Files::open(&root, &ring, &identity(), &options()).unwrap_err();
    assert!(told(&error).contains("another coracle daemon"), "{}", told(&error));
    drop(held);
    let other = Identity { raft_id: 8, ..identity() };
    let error = Files::open(&root, &ring, &other, &options()).unwrap_err();
    assert!(matches!(error, RaftStartError::OtherIdentity { .. }), "{error:?}");
    // Names of directories that cannot be made say so.
    fs::remove_dir_all(directory.path().join("snapshots")).unwrap();
    fs::write(directory.path().join("snapshots"), b"a file").unwrap();
    let error = Files::open(&root, &ring, &identity(), &options()).unwrap_err();
    assert!(told(&error).contains("snapshots"), "{}", told(&error));
}
