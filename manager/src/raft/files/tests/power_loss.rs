//! Whenever the power goes: every confirmed entry, vote and snapshot is there, without a hole.

use coracle_disk::testing::Seeded;
use coracle_disk::{Storage as _, read_whole};

use super::*;

/// What a client of the files knows.
struct Model {
    /// All states that were asked for, in order.
    asked: Vec<State>,
    /// How many of these were confirmed.
    confirmed: usize,
    /// Entries covered by the last snapshot that was confirmed.
    covered: u64,
}

impl Model {
    fn from(state: State, covered: u64) -> Self {
        Self { asked: vec![state], confirmed: 1, covered }
    }

    fn state(&self) -> State {
        self.asked.last().unwrap().clone()
    }

    /// Entries that no truncation which is still under way can touch.
    fn stable(&self) -> u64 {
        self.asked[self.confirmed - 1..].iter().map(State::next).min().unwrap()
    }

    /// What was found must have been asked for, at or after the last confirmed state; the last append may be there in part.
    fn check(&self, found: &State, covered: u64, what: &str) {
        assert!(
            covered >= self.covered,
            "{what}: a snapshot of {} is gone, {covered} is there",
            self.covered
        );
        let candidates = &self.asked[self.confirmed - 1..];
        let begun = |pair: &[State]| {
            let (before, after) = (&pair[0], &pair[1]);
            after.vote == found.vote
                && before.next() <= found.next()
                && after.entries.starts_with(&found.entries)
                && after.entries.starts_with(&before.entries)
        };
        assert!(
            candidates.contains(found) || candidates.windows(2).any(begun),
            "{what}: found {} entries, vote {:?}; confirmed {} entries, vote {:?}; asked for {} entries",
            found.next(),
            found.vote,
            candidates[0].next(),
            candidates[0].vote,
            self.asked.last().unwrap().next(),
        );
    }
}

fn covered(files: &Files) -> u64 {
    files.snapshots.current().map_or(0, |(meta, _)| meta.last_log_id.unwrap().index + 1)
}

/// As Raft does when it starts: a log that ends before the snapshot is emptied up to it.
fn catch_up(files: &Files) {
    let state = State::read(files);
    if files.log.stats().next_index < covered(files) {
        purge(&files.log, &state, covered(files)).unwrap();
    }
}

/// A run of random operations.
struct Run<'run> {
    files: &'run Files,
    seeded: &'run mut Seeded,
    model: &'run mut Model,
    sender: mpsc::Sender<usize>,
    receiver: mpsc::Receiver<usize>,
}

impl Run<'_> {
    /// Works until something fails.
    fn work(mut self, steps: u64) {
        for step in 0..steps {
            if self.step(step).is_err() {
                break;
            }
            if self.seeded.below(3) == 0 {
                // Sometimes wait, so that batches have all sizes.
                while let Ok(number) = self.receiver.recv_timeout(std::time::Duration::from_millis(2)) {
                    self.model.confirmed = self.model.confirmed.max(number + 1);
                }
            }
        }
        self.files.log.close();
        while let Ok(number) = self.receiver.try_recv() {
            self.model.confirmed = self.model.confirmed.max(number + 1);
        }
    }

    /// Confirms the state that is asked for next.
    fn done(&self) -> coracle_wal::Completion {
        let (sender, number) = (self.sender.clone(), self.model.asked.len());
        Box::new(move |result| {
            if result.is_ok() {
                sender.send(number).unwrap();
            }
        })
    }

    fn step(&mut self, step: u64) -> Result<(), Box<dyn std::error::Error>> {
        let mut state = self.model.state();
        let log = &self.files.log;
        match self.seeded.below(16) {
            0 | 1 => {
                let vote = Bytes::from(format!("vote {}", self.seeded.next_number()));
                state.vote = Some(vote.clone());
                log.save_vote(vote, self.done())?;
            }
            2 if state.next() > self.model.covered => {
                let index = self.model.covered + self.seeded.below(state.next() - self.model.covered);
                state.entries.truncate(index as usize);
                log.truncate_since(index)?;
            }
            3 | 4 if self.model.stable() > self.model.covered => {
                let count =
                    self.model.covered + 1 + self.seeded.below(self.model.stable() - self.model.covered);
                snapshot(&self.files.snapshots, &state, count)?;
                self.model.covered = count;
            }
            5 | 6 if self.model.covered > 0 => {
                purge(log, &state, 1 + self.seeded.below(self.model.covered))?;
            }
            7 if self.seeded.below(2) == 0 => return self.take_over(step),
            8 => log.save_committed(Bytes::from(step.to_string()))?,
            _ => {
                let entries: Vec<_> = (0..1 + self.seeded.below(3))
                    .map(|nth| entry(state.next() + nth, step, self.seeded.below(400) as usize))
                    .collect();
                state.entries.extend(entries.iter().map(|entry| (entry.term, entry.payload.clone())));
                log.append(entries, self.done())?;
            }
        }
        self.model.asked.push(state);
        Ok(())
    }

    /// Installs a snapshot that goes beyond all that is here.
    fn take_over(&mut self, step: u64) -> Result<(), Box<dyn std::error::Error>> {
        let (mut state, log) = (self.model.state(), &self.files.log);
        let vote = state.vote.get_or_insert_default().clone();
        self.model.asked.push(state.clone());
        // Everything before is durable once this is.
        durably(|done| log.save_vote(vote, done))?;
        self.model.confirmed = self.model.asked.len();
        for _ in 0..1 + self.seeded.below(4) {
            let new = entry(state.next(), 1000 + step, 5);
            state.entries.push((new.term, new.payload));
        }
        // From here on it may be found.
        self.model.asked.push(state.clone());
        snapshot(&self.files.snapshots, &state, state.next())?;
        self.model.covered = state.next();
        self.model.confirmed = self.model.asked.len();
        purge(log, &state, state.next())?;
        Ok(())
    }
}

fn work(files: &Files, seeded: &mut Seeded, model: &mut Model, steps: u64) {
    let (sender, receiver) = mpsc::channel();
    Run { files, seeded, model, sender, receiver }.work(steps);
}

fn seeds() -> u64 {
    std::env::var("CORACLE_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(25)
}

#[test]
fn a_power_loss_at_any_moment_loses_nothing_confirmed() {
    for seed in 0..seeds() {
        let mut seeded = Seeded::new(seed);
        let ring = KeyRing::in_memory().unwrap();
        let mut storage = CrashStorage::new();
        for round in 0..5 {
            let what = format!("seed {seed} round {round}");
            let files = open(&storage, &ring).unwrap_or_else(|error| panic!("{what}: {error:?}"));
            catch_up(&files);
            let mut model = Model::from(State::read(&files), covered(&files));
            storage.fail_after(1 + seeded.below(150));
            work(&files, &mut seeded, &mut model, 80);
            drop(files);
            if seeded.below(3) == 0 {
                storage = storage.after_process_crash();
                let files = open(&storage, &ring).unwrap_or_else(|error| panic!("{what}: {error:?}"));
                model.check(&State::read(&files), covered(&files), &format!("{what}, process crash"));
            }
            storage = storage.after_power_loss(seeded.next_number());
            // Opening writes too, and the power may go again meanwhile.
            storage.fail_after(seeded.below(12));
            let _ = open(&storage, &ring);
            storage = storage.after_power_loss(seeded.next_number());
            let files = open(&storage, &ring).unwrap_or_else(|error| panic!("{what}: refused: {error:?}"));
            model.check(&State::read(&files), covered(&files), &what);
        }
    }
}

/// One of everything, each waited for; `confirm` is told what is promised from then on.
fn script(
    storage: &CrashStorage,
    ring: &KeyRing,
    mut confirm: impl FnMut(&State, u64),
) -> Result<(), Box<dyn std::error::Error>> {
    let files = open(storage, ring)?;
    let (log, snapshots) = (&files.log, &files.snapshots);
    let mut state = State::default();
    let append = |state: &mut State, term| -> Result<(), WalError> {
        let new = entry(state.next(), term, 300);
        durably(|done| log.append(vec![new.clone()], done))?;
        state.entries.push((new.term, new.payload));
        Ok(())
    };
    let vote = |state: &mut State, vote: &'static str| -> Result<(), WalError> {
        durably(|done| log.save_vote(Bytes::from(vote), done))?;
        state.vote = Some(Bytes::from(vote));
        Ok(())
    };
    vote(&mut state, "first")?;
    confirm(&state, 0);
    for _ in 0..6 {
        append(&mut state, 1)?;
        confirm(&state, 0);
    }
    snapshot(snapshots, &state, 4)?;
    confirm(&state, 4);
    purge(log, &state, 3)?;
    append(&mut state, 1)?;
    confirm(&state, 4);
    snapshot(snapshots, &state, 7)?;
    confirm(&state, 7);
    purge(log, &state, 7)?;
    vote(&mut state, "second")?;
    confirm(&state, 7);
    for _ in 0..5 {
        let new = entry(state.next(), 3, 20);
        state.entries.push((new.term, new.payload));
    }
    snapshot(snapshots, &state, 12)?;
    confirm(&state, 12);
    purge(log, &state, 12)?;
    for _ in 0..6 {
        append(&mut state, 3)?;
        confirm(&state, 12);
    }
    log.close();
    Ok(())
}

#[test]
fn a_power_loss_at_every_single_change_loses_nothing_confirmed() {
    let ring = KeyRing::in_memory().unwrap();
    let whole = CrashStorage::new();
    script(&whole, &ring, |_, _| {}).unwrap();
    let total = whole.changes();
    assert!(total > 90, "{total}");
    for changes in 0..total {
        let storage = CrashStorage::new();
        storage.fail_after(changes);
        let mut promised = (State::default(), 0);
        let _ = script(&storage, &ring, |state, covered| promised = (state.clone(), covered));
        for seed in 0..4 {
            let what = format!("power gone after {changes} changes, seed {seed}");
            let left = storage.after_power_loss(seed);
            let files = open(&left, &ring).unwrap_or_else(|error| panic!("{what}: refused: {error:?}"));
            let found = State::read(&files);
            assert!(found.entries.starts_with(&promised.0.entries), "{what}: entries");
            assert!(covered(&files) >= promised.1, "{what}: snapshot");
            assert!(rank(&found) >= rank(&promised.0), "{what}: vote");
        }
    }
}

/// Which vote of the script it is.
fn rank(state: &State) -> usize {
    let votes = [None, Some("first"), Some("second")];
    votes.iter().position(|vote| vote.map(str::as_bytes) == state.vote.as_deref()).unwrap()
}

#[test]
fn half_made_snapshots_do_not_stay() {
    let ring = KeyRing::in_memory().unwrap();
    let storage = CrashStorage::new();
    script(&storage, &ring, |_, _| {}).unwrap();
    storage.replace("snapshots/3.tmp", vec![1; 5000]);
    let _files = open(&storage, &ring).unwrap();
    let snapshots = storage.subdirectory("snapshots").unwrap();
    assert!(read_whole(&*snapshots, "3.tmp").is_err());
    assert_eq!(snapshots.list().unwrap().len(), 2, "the newest and the one before");
}
