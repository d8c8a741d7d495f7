//! Services whose tasks are never on one node: what a service keeps away from, it is kept away from.
//!
//! The rule holds in both directions, whichever task came first: else it would depend on the order in which tasks were
//! made whether a noisy neighbour arrives. A task that is being stopped counts until it has ended; tasks of a service that
//! was removed have no labels any more and count no longer.

use std::collections::BTreeSet;

use coracle_model::id::ServiceId;
use coracle_model::service::Service;

use crate::state::State;

/// Whether one of the two keeps away from the other. A service may keep away from itself.
pub(crate) fn is_apart(one: &Service, other: &Service) -> bool {
    avoids(one, other) || avoids(other, one)
}

fn avoids(one: &Service, other: &Service) -> bool {
    one.spec.task.placement.away_from.iter().any(|label| label.matches(&other.spec.labels))
}

/// Whether there may be services from which this one is apart. Looks only at those that keep away from any.
pub(crate) fn keeps_away(state: &State, service: &Service) -> bool {
    !service.spec.task.placement.away_from.is_empty()
        || state.services_keeping_away().any(|other| avoids(other, service))
}

/// The services from which this one is apart, itself too where it is.
pub(super) fn apart_from(state: &State, service: &Service) -> BTreeSet<ServiceId> {
    let mut apart: BTreeSet<ServiceId> =
        state.services_keeping_away().filter(|other| avoids(other, service)).map(|other| other.id).collect();
    if !service.spec.task.placement.away_from.is_empty() {
        apart.extend(state.services().filter(|other| avoids(service, other)).map(|other| other.id));
    }
    apart
}
