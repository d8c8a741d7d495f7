//! What must hold, one invariant per file. Each says what is amiss, and each file shows with a state made by hand that
//! it does.

#[path = "invariants/agents_have_what_is_wanted.rs"]
mod agents_have_what_is_wanted;
#[path = "invariants/completions_counted_once.rs"]
mod completions_counted_once;
#[path = "invariants/desired_only_rises.rs"]
mod desired_only_rises;
#[cfg(test)]
#[path = "invariants/forge.rs"]
mod forge;
#[path = "invariants/history_is_bounded.rs"]
mod history_is_bounded;
#[path = "invariants/moved.rs"]
mod moved;
#[path = "invariants/moves_even_out.rs"]
mod moves_even_out;
#[path = "invariants/no_node_overcommitted.rs"]
mod no_node_overcommitted;
#[path = "invariants/nothing_exclusive_given_twice.rs"]
mod nothing_exclusive_given_twice;
#[path = "invariants/older_terms_write_nothing.rs"]
mod older_terms_write_nothing;
#[path = "invariants/one_process_per_slot.rs"]
mod one_process_per_slot;
#[path = "invariants/one_task_per_slot.rs"]
mod one_task_per_slot;
#[path = "invariants/planning_again_changes_nothing.rs"]
mod planning_again_changes_nothing;
#[path = "invariants/rolled_back_is_as_before.rs"]
mod rolled_back_is_as_before;
#[path = "invariants/slots_as_wanted.rs"]
mod slots_as_wanted;
#[path = "invariants/snapshots_restore.rs"]
mod snapshots_restore;
#[path = "invariants/states_only_rise.rs"]
mod states_only_rise;
#[path = "invariants/tasks_belong_to_services.rs"]
mod tasks_belong_to_services;
#[path = "invariants/updates_end.rs"]
mod updates_end;
#[path = "invariants/updates_take_down_few.rs"]
mod updates_take_down_few;
#[path = "invariants/versions_rise.rs"]
mod versions_rise;

use coracle_manager_core::State;

use crate::agent::Agent;
use crate::world::World;

pub(crate) use agents_have_what_is_wanted::check as agents_have_what_is_wanted;
pub(crate) use moved::Moved;
pub(crate) use moves_even_out::check as moves_even_out;
pub(crate) use older_terms_write_nothing::check as older_terms_write_nothing;
pub(crate) use rolled_back_is_as_before::check as rolled_back_is_as_before;
pub(crate) use snapshots_restore::check as snapshots_restore;
pub(crate) use tasks_belong_to_services::Orphans;
pub(crate) use updates_end::check as updates_end;
pub(crate) use updates_take_down_few::Outages;

/// Nothing, or what is amiss.
pub(crate) type Checked = Result<(), String>;

/// What holds after every step; `before` is the state at the last check.
pub(crate) fn every_step<'a>(
    before: &State,
    world: &World,
    agents: impl Iterator<Item = &'a Agent>,
    moved: &Moved,
) -> Vec<String> {
    let state = &world.state;
    let checks = [
        states_only_rise::check(before, state),
        desired_only_rises::check(before, state),
        versions_rise::check(before, state),
        one_task_per_slot::check(world, moved),
        no_node_overcommitted::check(state),
        tasks_belong_to_services::rows(state),
        one_process_per_slot::check(world, agents, moved),
        nothing_exclusive_given_twice::check(state),
        completions_counted_once::check(before, state),
    ];
    checks.into_iter().filter_map(Result::err).collect()
}

/// What holds once all planners have had their say.
pub(crate) fn once_settled(state: &State) -> Vec<String> {
    let checks = [
        slots_as_wanted::check(state),
        history_is_bounded::check(state),
        completions_counted_once::settled(state),
    ];
    checks.into_iter().filter_map(Result::err).collect()
}
