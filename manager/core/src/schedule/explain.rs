//! Why no node can have a task, in the operator's words.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use coracle_model::constraint::Constraint;

use super::filter::{self, Obstacle};
use super::group::Group;
use super::room::Room;

/// `no suitable node (2 of 3: not enough memory; 1 of 3: constraint node.labels.zone==a)`.
pub(super) fn reason(group: &Group<'_>, rooms: &[Room<'_>]) -> String {
    if rooms.is_empty() {
        return "no suitable node (the cluster has none)".to_owned();
    }
    if let Some(reason) = unknown_label(group, rooms) {
        return reason;
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
        .map(|(obstacle, count)| format!("{count} of {}: {}", rooms.len(), obstacle.in_words(group)))
        .collect();
    format!("no suitable node ({})", parts.join("; "))
}

/// A label that no node has is most often misspelt: that is said first, whatever else keeps nodes from having the task.
fn unknown_label(group: &Group<'_>, rooms: &[Room<'_>]) -> Option<String> {
    let missing = |constraint: &&Constraint| {
        constraint.wanted_label().is_some_and(|label| !rooms.iter().any(|room| label.is_on(room.node)))
    };
    let constraint = group.placement.constraints.iter().find(missing)?;
    let label = constraint.wanted_label()?;
    Some(format!("no suitable node (no node has the label {}: constraint {constraint})", label.name()))
}
