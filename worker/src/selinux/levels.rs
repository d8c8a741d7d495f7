//! Which level a task gets that names none: a pair of categories that no other task of this node has.
//!
//! As with Docker, a level is a sensitivity and two of 1024 categories, of which there are half a million.

use std::collections::{BTreeMap, BTreeSet};

use coracle_model::id::TaskId;

/// Categories `c0` to `c1023`, as all policies with levels have them.
const CATEGORIES: u32 = 1024;
const PAIRS: u32 = CATEGORIES * (CATEGORIES - 1) / 2;

/// The process labels of the tasks of this node.
#[derive(Debug, Default)]
pub(super) struct Levels(BTreeMap<TaskId, String>);

impl Levels {
    /// What a container has, which goes on being its own.
    pub(super) fn keep(&mut self, task: TaskId, label: String) {
        self.0.insert(task, label);
    }

    pub(super) fn release(&mut self, task: TaskId) {
        self.0.remove(&task);
    }

    /// Two categories, as `c1,c2`, that no other task has. Where the search begins follows from the task's id, so that the
    /// levels of successors differ too; none if all are taken.
    pub(super) fn categories(&self, task: TaskId) -> Option<String> {
        let taken: BTreeSet<&str> = self
            .0
            .iter()
            .filter(|(other, _)| **other != task)
            .filter_map(|(_, label)| super::label::level(label)?.split_once(':'))
            .map(|(_, categories)| categories)
            .collect();
        let start = start(task);
        (0..PAIRS).map(|step| pair((start + step) % PAIRS)).find(|pair| !taken.contains(pair.as_str()))
    }
}

/// FNV-1a of the id: only to spread, so that not every task looks at the same places.
fn start(task: TaskId) -> u32 {
    let hash = task.to_string().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    u32::try_from(hash % u64::from(PAIRS)).unwrap_or(0)
}

/// The pair of this number: those with `c0` come first, then those with `c1`, and so on.
fn pair(number: u32) -> String {
    let (mut first, mut rest) = (0, number);
    while rest >= CATEGORIES - 1 - first {
        rest -= CATEGORIES - 1 - first;
        first += 1;
    }
    format!("c{first},c{}", first + 1 + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_all_different_and_in_order() {
        assert_eq!((pair(0), pair(1022), pair(1023)), ("c0,c1".into(), "c0,c1023".into(), "c1,c2".into()));
        assert_eq!(pair(PAIRS - 1), "c1022,c1023");
        let some: BTreeSet<String> = (0..PAIRS).step_by(97).map(pair).collect();
        assert_eq!(some.len(), PAIRS.div_ceil(97) as usize);
    }

    #[test]
    fn no_two_tasks_have_the_same_one() {
        let mut levels = Levels::default();
        let task = |number| TaskId::from_bits(number);
        let first = levels.categories(task(1)).unwrap();
        // Somebody has exactly what this task would get, be it by another type.
        levels.keep(task(2), format!("u:r:other_t:s0:{first}"));
        let second = levels.categories(task(1)).unwrap();
        assert_ne!(first, second);
        levels.keep(task(1), format!("u:r:t:s0:{second}"));
        assert_eq!(levels.categories(task(1)), Some(second.clone()), "its own is not taken from it");
        levels.keep(task(3), "u:r:t:s0".into());
        levels.release(task(2));
        levels.release(task(1));
        assert_eq!(levels.categories(task(1)), Some(first));
        assert_ne!(levels.categories(task(1)), levels.categories(task(4)));
    }
}
