//! A right store with slow clients: every operation takes effect at one moment between its beginning and its answer,
//! or any time after its beginning when the client gives up.

use std::collections::BTreeMap;

use coracle_history::{Answer, History, Kind, Operation};

/// Few keys, so that operations meet.
pub(crate) type Key = u8;

const CLIENTS: u8 = 4;

#[derive(Debug, Clone)]
struct Open {
    operation: Operation<Key, u32>,
    /// Once it took effect.
    done: Option<Answer<u32>>,
}

/// The store, its clients, and what they saw.
#[derive(Debug, Default)]
pub(crate) struct Store {
    /// What was recorded.
    pub(crate) history: History<Key, u32>,
    now: u64,
    index: u64,
    values: u32,
    state: BTreeMap<Key, (u64, u32)>,
    open: BTreeMap<u8, Open>,
    /// Operations whose clients gave up before they took effect.
    late: Vec<Open>,
    /// The values that each acknowledged or unknown write replaced, in order of index.
    replaced: Vec<(Key, u64, Option<u32>)>,
}

impl Store {
    /// Does what a script says; clients that wait at its end never get an answer.
    pub(crate) fn run(script: &[(u8, u8)]) -> Self {
        let mut store = Self::default();
        script.iter().for_each(|(client, choice)| store.step(*client, *choice));
        for open in std::mem::take(&mut store.open).into_values() {
            store.answer(open, Answer::Unknown);
        }
        store
    }

    /// One client (or nobody) does one thing.
    fn step(&mut self, client: u8, choice: u8) {
        self.now += 1;
        let client = client % CLIENTS;
        match self.open.remove(&client) {
            None => self.begin(client, choice),
            Some(mut open) if open.done.is_none() => {
                if choice.is_multiple_of(8) {
                    self.give_up(open);
                } else if choice % 8 == 1 {
                    self.answer(open, Answer::Refused);
                } else {
                    self.take_effect(&mut open);
                    self.open.insert(client, open);
                }
            }
            Some(open) if choice.is_multiple_of(8) => self.give_up(open),
            Some(open) => {
                let done = open.done.clone().unwrap();
                self.answer(open, done);
            }
        }
        if choice > 200
            && let Some(mut open) = self.late.pop()
        {
            self.take_effect(&mut open);
        }
    }

    /// The state at the end, with its index.
    pub(crate) fn end(&self) -> (u64, BTreeMap<Key, u32>) {
        (self.index + 1, self.state.iter().map(|(key, (_, value))| (*key, *value)).collect())
    }

    /// The last write of one of the keys, if it was acknowledged, and what was there before.
    pub(crate) fn lose_last(&self, pick: usize) -> Option<(Key, Option<u32>)> {
        let mut last: BTreeMap<Key, (u64, Option<u32>)> = BTreeMap::new();
        for (key, index, before) in &self.replaced {
            last.insert(*key, (*index, *before));
        }
        let acknowledged: Vec<(Key, Option<u32>)> = last
            .into_iter()
            .filter(|(key, (index, before))| self.is_acknowledged(*key, *index, *before))
            .map(|(key, (_, before))| (key, before))
            .collect();
        acknowledged.get(pick % acknowledged.len().max(1)).copied()
    }

    /// Acknowledged, and without an unknown write that could explain the value before it.
    fn is_acknowledged(&self, key: Key, index: u64, before: Option<u32>) -> bool {
        let operations = || self.history.operations().iter().filter(|operation| operation.key == key);
        let now = self.state.get(&key).map(|(_, value)| *value);
        operations().any(|operation| operation.acknowledged().is_some_and(|(at, _)| at == index))
            && now != before
            && !operations().any(|operation| operation.possible() == Some(&before))
    }

    fn begin(&mut self, client: u8, choice: u8) {
        let key = choice % 3;
        self.values += 1;
        let kind = match choice / 3 % 8 {
            0..=3 => Kind::Read,
            4 => Kind::Write(None),
            5 => Kind::WriteIf {
                value: Some(self.values),
                expected: self.state.get(&key).map_or(0, |(index, _)| *index),
            },
            _ => Kind::Write(Some(self.values)),
        };
        let (invoked_at, completed_at) = (self.now, self.now);
        let client_number = u32::from(client);
        let answer = Answer::Unknown;
        let operation = Operation { client: client_number, key, kind, invoked_at, completed_at, answer };
        self.open.insert(client, Open { operation, done: None });
    }

    fn take_effect(&mut self, open: &mut Open) {
        let key = open.operation.key;
        let present = self.state.get(&key).copied();
        let value = match open.operation.kind {
            Kind::Read => {
                open.done = Some(Answer::read(self.index, present.map(|(_, value)| value)));
                return;
            }
            Kind::WriteIf { expected, .. } if present.is_none_or(|(index, _)| index != expected) => {
                open.done = Some(Answer::Refused);
                return;
            }
            Kind::Write(value) | Kind::WriteIf { value, .. } => value,
        };
        // Other entries come between.
        self.index += 1 + self.now % 3;
        self.replaced.push((key, self.index, present.map(|(_, value)| value)));
        match value {
            Some(value) => self.state.insert(key, (self.index, value)),
            None => self.state.remove(&key),
        };
        open.done = Some(Answer::written(self.index));
    }

    fn give_up(&mut self, open: Open) {
        if open.done.is_none() {
            self.late.push(open.clone());
        }
        self.answer(open, Answer::Unknown);
    }

    fn answer(&mut self, open: Open, answer: Answer<u32>) {
        self.history.push(Operation { completed_at: self.now, answer, ..open.operation });
    }
}
