//! The search for an order that explains what clients saw of one key, when answers carry no index.
//!
//! After Wing and Gong, "Testing and Verifying Concurrent Objects" (1993), with the memory of Lowe, "Testing for
//! Linearizability" (2016): operations are tried in the order of their beginnings; one may come next if it began
//! before every open one was answered; a set of operations that was tried with the same value once is not tried
//! again. Keys are independent of each other, so each is searched alone (Herlihy and Wing 1990, locality).

use std::collections::{BTreeMap, HashSet};
use std::fmt::Debug;
use std::hash::Hash;

use crate::history::History;
use crate::operation::{Answer, Operation, Time};
use crate::violation::{Rule, Violation};

/// Looks for an order for every key, with at most `steps` steps for each.
///
/// Indices are not looked at, and a condition of a write only says that it is a write. All keys begin without a
/// value. What is reported shows the key's operation at which the search never got further.
#[must_use]
pub fn check<K: Ord + Debug, V: Eq + Hash + Debug>(history: &History<K, V>, steps: u64) -> Vec<Violation> {
    let mut by_key: BTreeMap<&K, Vec<&Operation<K, V>>> = BTreeMap::new();
    for operation in history.operations() {
        by_key.entry(&operation.key).or_default().push(operation);
    }
    by_key.values().filter_map(|operations| check_key(operations, steps)).collect()
}

fn check_key<K: Debug, V: Eq + Hash + Debug>(
    operations: &[&Operation<K, V>],
    steps: u64,
) -> Option<Violation> {
    let search = Search::new(operations);
    let relevant = search.operations.clone();
    match search.run(steps) {
        Found::Order => None,
        Found::None { reached } => {
            let shown = relevant.get(reached).copied().into_iter().collect::<Vec<_>>();
            Some(Violation::new(Rule::NotLinearizable, &shown))
        }
        Found::Limit => Some(Violation::new(Rule::Inconclusive, &relevant[..relevant.len().min(1)])),
    }
}

/// How a search ends.
enum Found {
    Order,
    /// No order; this operation could never be answered as it was.
    None {
        reached: usize,
    },
    Limit,
}

/// The beginning or the answer of an operation, in a list from which operations are lifted and put back.
#[derive(Debug, Clone, Copy)]
struct Event {
    operation: usize,
    /// The event of the answer, if this is the beginning.
    answer: Option<usize>,
    next: usize,
    previous: usize,
}

/// The set of operations that are in order already, one bit each.
type Placed = Vec<u64>;

struct Search<'a, K, V> {
    operations: Vec<&'a Operation<K, V>>,
    /// The first is the head of the list, the last its end.
    events: Vec<Event>,
    value: &'a Option<V>,
    placed: Placed,
    /// Beginnings of the operations in order, each with the value before it.
    order: Vec<(usize, &'a Option<V>)>,
    tried: HashSet<(Placed, &'a Option<V>)>,
}

const HEAD: usize = 0;

impl<'a, K, V: Eq + Hash> Search<'a, K, V> {
    fn new(all: &[&'a Operation<K, V>]) -> Self {
        let operations: Vec<&Operation<K, V>> =
            all.iter().copied().filter(|operation| matters(operation, all)).collect();
        // An answer at the same moment as a beginning is concurrent with it: beginnings first.
        let mut moments: Vec<(Time, bool, usize)> = Vec::with_capacity(operations.len() * 2);
        for (number, operation) in operations.iter().enumerate() {
            let unknown = operation.answer == Answer::Unknown;
            moments.push((operation.invoked_at, false, number));
            moments.push((if unknown { Time::MAX } else { operation.completed_at }, true, number));
        }
        moments.sort_unstable();
        let mut events = vec![Event { operation: usize::MAX, answer: None, next: 1, previous: HEAD }];
        let mut begun = vec![HEAD; operations.len()];
        for (at, (_, is_answer, operation)) in (1..).zip(moments) {
            events.push(Event { operation, answer: None, next: at + 1, previous: at - 1 });
            if is_answer {
                events[begun[operation]].answer = Some(at);
            } else {
                begun[operation] = at;
            }
        }
        let end = events.len();
        events.push(Event { operation: usize::MAX, answer: None, next: end, previous: end - 1 });
        let placed = vec![0; operations.len().div_ceil(64)];
        Self { operations, events, value: &None, placed, order: Vec::new(), tried: HashSet::new() }
    }

    fn run(mut self, steps: u64) -> Found {
        let end = self.events.len() - 1;
        let mut at = self.events[HEAD].next;
        let mut reached = 0;
        for _ in 0..steps {
            if self.events[HEAD].next == end {
                return Found::Order;
            }
            let event = self.events[at];
            if let Some(answer) = event.answer {
                at = if self.place(at, answer) { self.events[HEAD].next } else { event.next };
                continue;
            }
            // An answer (or the end): something that was open must have been placed otherwise.
            reached = reached.max(if at == end { 0 } else { at });
            match self.take_back() {
                Some(last) => at = self.events[last].next,
                None => return Found::None { reached: self.events[reached.min(end - 1)].operation },
            }
        }
        Found::Limit
    }

    /// Places the operation that begins at `at` next, if its answer allows it and this was not tried.
    fn place(&mut self, at: usize, answer: usize) -> bool {
        let number = self.events[at].operation;
        let operation = self.operations[number];
        let after = match (operation.seen(), operation.kind.written()) {
            (Some(seen), _) if seen != self.value => return false,
            (Some(_), _) | (None, None) => self.value,
            (None, Some(written)) => written,
        };
        self.placed[number / 64] |= 1 << (number % 64);
        if !self.tried.insert((self.placed.clone(), after)) {
            self.placed[number / 64] &= !(1 << (number % 64));
            return false;
        }
        self.order.push((at, self.value));
        self.value = after;
        self.unlink(at);
        self.unlink(answer);
        true
    }

    /// Takes the last operation out of the order again.
    fn take_back(&mut self) -> Option<usize> {
        let (at, before) = self.order.pop()?;
        let number = self.events[at].operation;
        self.placed[number / 64] &= !(1 << (number % 64));
        self.value = before;
        // In the opposite order of unlinking, so that the neighbours are what they were.
        if let Some(answer) = self.events[at].answer {
            self.link(answer);
        }
        self.link(at);
        Some(at)
    }

    fn unlink(&mut self, at: usize) {
        let Event { next, previous, .. } = self.events[at];
        self.events[previous].next = next;
        self.events[next].previous = previous;
    }

    fn link(&mut self, at: usize) {
        let Event { next, previous, .. } = self.events[at];
        self.events[previous].next = at;
        self.events[next].previous = at;
    }
}

/// Whether an operation says anything: what was refused had no effect, a read without an answer has none, and a write
/// of unknown outcome whose value nobody saw may be taken as never done.
fn matters<K, V: Eq>(operation: &Operation<K, V>, all: &[&Operation<K, V>]) -> bool {
    match (&operation.answer, operation.kind.written()) {
        (Answer::Refused, _) | (Answer::Unknown, None) => false,
        (Answer::Unknown, Some(value)) => all.iter().any(|other| other.seen() == Some(value)),
        (Answer::Ok { .. }, _) => true,
    }
}
