//! Marks of writes that were applied, so that a repeated write gets the first answer.

use coracle_model::id::IdempotencyKey;
use imbl::OrdMap;

/// How many marks are kept: far more than writes that are repeated while their author still waits.
pub const KEYS_KEPT: usize = 10_000;

/// The newest marks and the index at which each was applied.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AppliedKeys {
    by_key: OrdMap<IdempotencyKey, u64>,
    by_index: OrdMap<u64, IdempotencyKey>,
}

impl AppliedKeys {
    /// The index at which the mark was applied.
    #[must_use]
    pub fn index_of(&self, key: IdempotencyKey) -> Option<u64> {
        self.by_key.get(&key).copied()
    }

    /// All marks, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (IdempotencyKey, u64)> + '_ {
        self.by_index.iter().map(|(index, key)| (*key, *index))
    }

    /// Adds a mark and drops the oldest beyond [`KEYS_KEPT`].
    pub(super) fn insert(&mut self, key: IdempotencyKey, index: u64) {
        self.by_key.insert(key, index);
        self.by_index.insert(index, key);
        while self.by_index.len() > KEYS_KEPT {
            let Some((oldest, key)) = self.by_index.get_min().copied() else { return };
            self.by_index.remove(&oldest);
            self.by_key.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_marks_are_kept() {
        let mut keys = AppliedKeys::default();
        for index in 0..KEYS_KEPT as u64 + 5 {
            keys.insert(IdempotencyKey::from_bits(u128::from(index)), index);
        }
        assert_eq!(keys.iter().count(), KEYS_KEPT);
        assert_eq!(keys.index_of(IdempotencyKey::from_bits(4)), None);
        assert_eq!(keys.index_of(IdempotencyKey::from_bits(5)), Some(5));
    }
}
