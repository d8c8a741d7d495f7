//! The reads of one key between two acknowledged writes of it.

use crate::operation::Operation;

/// An acknowledged write (or the beginning, when nothing was written) and the reads of what it left.
#[derive(Debug)]
pub(crate) struct Segment<'a, K, V> {
    /// Zero at the beginning.
    pub(crate) index: u64,
    /// Nothing at the beginning.
    pub(crate) write: Option<&'a Operation<K, V>>,
    /// By index.
    pub(crate) reads: Vec<&'a Operation<K, V>>,
}

/// A read that sees something else than the read or the acknowledged write before it: between the two a write must
/// have happened that nobody was told of.
#[derive(Debug)]
pub(crate) struct Transition<'a, K, V> {
    pub(crate) read: &'a Operation<K, V>,
    pub(crate) value: &'a Option<V>,
    pub(crate) index: u64,
    /// What was known before: an acknowledged write or a read.
    pub(crate) before: Option<&'a Operation<K, V>>,
    /// Whether there is an index between the two.
    pub(crate) possible: bool,
}

/// Divides the operations of one key.
pub(crate) fn divide<'a, K, V>(operations: &[&'a Operation<K, V>]) -> Vec<Segment<'a, K, V>> {
    let mut segments = vec![Segment { index: 0, write: None, reads: Vec::new() }];
    let mut indexed: Vec<&Operation<K, V>> =
        operations.iter().copied().filter(|operation| operation.index().is_some()).collect();
    // A write's own state is the one at its index: it comes before the reads of it.
    indexed.sort_by_key(|operation| (operation.index(), operation.seen().is_some(), operation.completed_at));
    for operation in indexed {
        match operation.acknowledged() {
            Some((index, _)) => {
                segments.push(Segment { index, write: Some(operation), reads: Vec::new() });
            }
            None => segments.last_mut().into_iter().for_each(|segment| segment.reads.push(operation)),
        }
    }
    segments
}

impl<'a, K, V: Eq> Segment<'a, K, V> {
    /// Where what is read changes although nothing was acknowledged.
    pub(crate) fn transitions(&self) -> Vec<Transition<'a, K, V>> {
        let nothing: &'a Option<V> = &None;
        let mut current = self.write.and_then(Operation::acknowledged).map_or(nothing, |(_, value)| value);
        let (mut last, mut before) = (self.index, self.write);
        let mut transitions: Vec<Transition<'a, K, V>> = Vec::new();
        for &read in &self.reads {
            let (Some(value), Some(index)) = (read.seen(), read.index()) else { continue };
            if value != current {
                transitions.push(Transition { read, value, index, before, possible: index > last });
                current = value;
            }
            (last, before) = (index, Some(read));
        }
        transitions
    }
}
