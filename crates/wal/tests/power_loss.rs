//! Whatever moment the power goes, and whatever the disk made of unsynced writes: what was confirmed is there.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::mpsc;

use bytes::Bytes;
use coracle_seal::KeyRing;
use coracle_wal::testing::{CrashStorage, Seeded};
use coracle_wal::{Entry, Log, Options, Purged, WalError};

fn options() -> Options {
    Options { segment_bytes: 4096, cache_bytes: 1500, batch_bytes: 2048 }
}

/// What a client of the log knows.
#[derive(Debug, Clone, Default)]
struct Model {
    /// All that was asked for, in order.
    asked: Vec<State>,
    /// How many of these were confirmed.
    confirmed: usize,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    /// Entries by index, from `first` on.
    first: u64,
    entries: Vec<(u64, Bytes)>,
    vote: Option<Bytes>,
}

impl State {
    fn of(log: &Log) -> Self {
        let stats = log.stats();
        let entries = log.read(stats.first_index, stats.next_index, usize::MAX).unwrap();
        Self {
            first: stats.first_index,
            entries: entries.into_iter().map(|entry| (entry.term, entry.payload)).collect(),
            vote: log.vote(),
        }
    }

    fn next(&self) -> u64 {
        self.first + self.entries.len() as u64
    }
}

/// Runs random operations until one is refused; returns what is known then.
fn work(log: &Log, seeded: &mut Seeded, start: State, steps: u64) -> Model {
    let mut model = Model { asked: vec![start], confirmed: 1 };
    let (sender, receiver) = mpsc::channel();
    for step in 0..steps {
        let mut state = model.asked.last().unwrap().clone();
        let number = model.asked.len();
        let done = {
            let sender = sender.clone();
            Box::new(move |result: Result<(), WalError>| {
                if result.is_ok() {
                    sender.send(number).unwrap();
                }
            })
        };
        let result = match seeded.below(12) {
            0 => {
                let vote = Bytes::from(format!("vote {step} {}", seeded.next_number()));
                state.vote = Some(vote.clone());
                log.save_vote(vote, done)
            }
            1 if state.next() > state.first => {
                let index = state.first + seeded.below(state.entries.len() as u64 + 1);
                state.entries.truncate((index - state.first) as usize);
                log.truncate_since(index)
            }
            2 if !state.entries.is_empty() => {
                let beyond = u64::from(seeded.below(8) == 0) * seeded.below(5);
                let index = state.first + seeded.below(state.entries.len() as u64) + beyond;
                let gone = ((index + 1 - state.first) as usize).min(state.entries.len());
                state.entries.drain(..gone);
                state.first = index + 1;
                log.purge(Purged { index, term: step })
            }
            3 => log.save_committed(Bytes::from(step.to_string())),
            _ => {
                let entries: Vec<_> = (0..1 + seeded.below(4))
                    .map(|nth| Entry {
                        index: state.next() + nth,
                        term: step,
                        payload: Bytes::from(vec![seeded.next_number() as u8; seeded.below(700) as usize]),
                    })
                    .collect();
                state.entries.extend(entries.iter().map(|entry| (entry.term, entry.payload.clone())));
                log.append(entries, done)
            }
        };
        if result.is_err() {
            break;
        }
        model.asked.push(state);
        if seeded.below(3) == 0 {
            // Sometimes wait for what was asked, so that batches have all sizes.
            while let Ok(number) = receiver.recv_timeout(std::time::Duration::from_millis(2)) {
                model.confirmed = model.confirmed.max(number + 1);
            }
        }
    }
    log.close();
    while let Ok(number) = receiver.try_recv() {
        model.confirmed = model.confirmed.max(number + 1);
    }
    model
}

/// The state found must be one that was asked for, at or after the last confirmed one.
fn check(found: &State, model: &Model, what: &str) {
    // Purging is not waited for, so the first index may lag behind: compare what both hold.
    let matches = |asked: &State| {
        asked.vote == found.vote
            && asked.next() == found.next()
            && (asked.first.max(found.first)..asked.next()).all(|index| {
                asked.entries[(index - asked.first) as usize] == found.entries[(index - found.first) as usize]
            })
    };
    // A batch may be kept in part: then entries of one append may be missing. Allow prefixes of unconfirmed appends.
    let is_partial = |window: &[State]| {
        let (before, after) = (&window[0], &window[1]);
        let mut cut = after.clone();
        while cut.next() > before.next() && cut.next() > cut.first {
            cut.entries.pop();
            if matches(&cut) {
                return true;
            }
        }
        false
    };
    let candidates = &model.asked[model.confirmed - 1..];
    assert!(
        candidates.iter().any(matches) || candidates.windows(2).any(is_partial),
        "{what}: found {}..{} vote {:?}, confirmed {}..{} vote {:?}",
        found.first,
        found.next(),
        found.vote,
        candidates[0].first,
        candidates[0].next(),
        candidates[0].vote,
    );
}

fn seeds() -> u64 {
    std::env::var("CORACLE_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(40)
}

#[test]
fn a_power_loss_at_any_moment_loses_nothing_confirmed() {
    for seed in 0..seeds() {
        let mut seeded = Seeded::new(seed);
        let ring = KeyRing::in_memory().unwrap();
        let mut storage = CrashStorage::new();
        let mut state = State::default();
        for round in 0..4 {
            let log = match Log::open(storage.clone(), ring.clone(), &options()) {
                Ok(log) => log,
                Err(error) => panic!("seed {seed} round {round}: an intact log was refused: {error}"),
            };
            assert_eq!(State::of(&log).entries, state.entries, "seed {seed} round {round}");
            storage.fail_after(1 + seeded.below(120));
            let model = work(&log, &mut seeded, State::of(&log), 60);
            drop(log);
            if seeded.below(3) == 0 {
                storage = storage.after_process_crash();
                // The process starts again, and then the power goes before it wrote anything.
                let log = Log::open(storage.clone(), ring.clone(), &options()).unwrap();
                check(
                    &State::of(&log),
                    &model,
                    &format!("seed {seed} round {round} after the process crash"),
                );
            }
            storage = storage.after_power_loss(seeded.next_number());
            let again = storage.after_power_loss(0);
            let log = Log::open(again, ring.clone(), &options()).unwrap_or_else(|error| {
                panic!("seed {seed} round {round}: refused after a power loss: {error}")
            });
            state = State::of(&log);
            check(&state, &model, &format!("seed {seed} round {round}"));
        }
    }
}

#[test]
fn a_full_disk_fails_the_operation_and_loses_nothing_confirmed() {
    const ENOSPC: i32 = 28;
    for changes in 5..60 {
        let storage = CrashStorage::new();
        let ring = KeyRing::in_memory().unwrap();
        let log = Log::open(storage.clone(), ring.clone(), &options()).unwrap();
        storage.fail_after_with(changes, ENOSPC);
        let model = work(&log, &mut Seeded::new(changes), State::default(), 100);
        assert!(log.failure().is_some_and(|failure| failure.is_no_space()), "after {changes} changes");
        // Reading goes on.
        let stats = log.stats();
        assert!(log.read(stats.first_index, stats.next_index, usize::MAX).is_ok());
        drop(log);
        let log = Log::open(storage.after_process_crash(), ring, &options()).unwrap();
        check(&State::of(&log), &model, &format!("full after {changes} changes"));
    }
}
