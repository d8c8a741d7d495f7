//! Random damage to a journal's files, by seed: there always is a journal that works, and it never invents anything.

use std::fs;
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, RngCore as _, SeedableRng as _};

use super::*;

/// Seeds that are always tried; `CORACLE_JOURNAL_SEEDS` asks for more.
const SEEDS: u64 = 15;
const TASKS: u128 = 30;

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn garbage(random: &mut StdRng, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    random.fill_bytes(&mut bytes);
    bytes
}

/// Does something to one file of the journal, and says what.
fn damage(journal: &Path, random: &mut StdRng) -> String {
    let all = files(journal);
    let Some(path) = all.choose(random) else {
        fs::create_dir_all(journal).unwrap();
        return "nothing is left to damage".to_owned();
    };
    let mut bytes = fs::read(path).unwrap();
    let length = bytes.len();
    let somewhere = |random: &mut StdRng| random.random_range(0..=length);
    let what = match random.random_range(0..9) {
        0 => {
            fs::remove_file(path).unwrap();
            return format!("{} removed", path.display());
        }
        1 => {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
            return format!("{} is a folder", path.display());
        }
        2 => {
            bytes.truncate(somewhere(random));
            "truncated"
        }
        3 if length > 0 => {
            for _ in 0..random.random_range(1..64) {
                let at = random.random_range(0..length);
                bytes[at] ^= 1 << random.random_range(0..8);
            }
            "bits flipped"
        }
        4 => {
            bytes = garbage(random, length);
            "garbage"
        }
        5 => {
            let (from, to) = (somewhere(random), somewhere(random));
            bytes[from.min(to)..from.max(to)].fill(0);
            "zeroed in part"
        }
        6 => {
            let (from, to) = (somewhere(random), somewhere(random));
            let range = from.min(to)..from.max(to).min(from.min(to) + 9000);
            let new = garbage(random, range.len());
            bytes[range].copy_from_slice(&new);
            "garbage in part"
        }
        7 => {
            let more = random.random_range(1..20_000);
            let more = garbage(random, more);
            bytes.extend(more);
            "garbage appended"
        }
        _ => {
            bytes.rotate_left(somewhere(random) % length.max(1));
            "rotated"
        }
    };
    fs::write(path, bytes).unwrap();
    format!("{} {what}", path.display())
}

fn write_all(journal: &Journal, round: usize) {
    for bits in 0..TASKS {
        journal.put_assigned(task(bits), &assigned(&"x".repeat(round * 100 + 40 * bits as usize)));
        journal.put_record(task(bits), &record(round as u32));
    }
}

/// Every record that is read was written in one of the rounds.
fn check(contents: &Contents, rounds: usize) {
    for (id, stored) in &contents.tasks {
        let names = (1..=rounds).map(|round| "x".repeat(round * 100 + 40 * id.bits() as usize));
        assert!(names.into_iter().any(|name| stored.assigned == assigned(&name)), "task {id}");
        assert!((1..=rounds).any(|round| stored.record == record(round as u32)), "task {id}");
    }
}

fn one(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let keyring = keyring();
    let mut told = Vec::new();
    for round in 1..=3 {
        let (journal, contents) = Journal::open(&path, Arc::clone(&keyring))
            .unwrap_or_else(|error| panic!("seed {seed}: {told:?}: {error}"));
        check(&contents, round - 1);
        write_all(&journal, round);
        journal.flush().unwrap_or_else(|error| panic!("seed {seed}: {told:?}: {error}"));
        drop(journal);
        let (journal, contents) = Journal::open(&path, Arc::clone(&keyring)).unwrap();
        assert_eq!(contents.tasks.len(), TASKS as usize, "seed {seed}: {told:?}: written and not there");
        assert!(contents.tasks.values().all(|stored| stored.record == record(round as u32)), "seed {seed}");
        drop(journal);
        for _ in 0..random.random_range(1..4) {
            told.push(damage(&path, &mut random));
        }
    }
    let beside: Vec<_> =
        fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(beside.len() <= 2, "seed {seed}: more than one old copy: {beside:?}");
}

#[test]
fn random_damage_never_stands_in_the_way() {
    let more = std::env::var("CORACLE_JOURNAL_SEEDS").ok().and_then(|count| count.parse().ok());
    for seed in 0..more.unwrap_or(SEEDS) {
        one(seed);
    }
}
