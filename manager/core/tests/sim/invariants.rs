//! What must hold after every step, one invariant per file.

#[path = "invariants/no_node_overcommitted.rs"]
mod no_node_overcommitted;
#[path = "invariants/one_process_per_slot.rs"]
mod one_process_per_slot;
#[path = "invariants/one_task_per_slot.rs"]
mod one_task_per_slot;
#[path = "invariants/snapshots_restore.rs"]
mod snapshots_restore;
#[path = "invariants/states_only_rise.rs"]
mod states_only_rise;

use coracle_manager_core::State;

use crate::agent::Agent;
use crate::world::World;

/// Checks everything; `before` is the state at the last check.
pub(crate) fn check<'a>(before: &State, world: &World, agents: impl Iterator<Item = &'a Agent>) {
    states_only_rise::check(before, &world.state);
    one_task_per_slot::check(world);
    no_node_overcommitted::check(&world.state);
    // Dear, and indices that are wrong stay wrong.
    if world.state.index().is_multiple_of(16) {
        snapshots_restore::check(&world.state);
    }
    one_process_per_slot::check(world, agents);
}
