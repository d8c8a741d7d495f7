//! Why no node can have a task, in the operator's words.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::filter::{self, Obstacle};
use super::group::Group;
use super::room::Room;

/// `no suitable node (2 of 3: not enough memory; 1 of 3: constraint)`.
pub(super) fn reason(group: &Group<'_>, rooms: &[Room<'_>]) -> String {
    if rooms.is_empty() {
        return "no suitable node (the cluster has none)".to_owned();
    }
    let mut counts: BTreeMap<Obstacle, usize> = BTreeMap::new();
    for obstacle in rooms.iter().filter_map(|room| filter::obstacle(group, room)) {
        *counts.entry(obstacle).or_default() += 1;
    }
    if counts.values().sum::<usize>() < rooms.len() {
        return "waits for the scheduler".to_owned();
    }
    let mut counts: Vec<(Obstacle, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|(obstacle, count)| (Reverse(*count), *obstacle));
    let parts: Vec<String> = counts
        .into_iter()
        .map(|(obstacle, count)| format!("{count} of {}: {}", rooms.len(), obstacle.as_str()))
        .collect();
    format!("no suitable node ({})", parts.join("; "))
}
