//! States that no sequence of writes leads to.

use std::sync::Arc;

use coracle_manager_core::State;
use coracle_manager_core::state::Record;
use coracle_model::task::Task;

use crate::world::{World, build};

/// Two replicas of a service run, each on a node of its own.
pub(super) fn running() -> World {
    let mut world = World::default();
    world.add_nodes(2);
    let mut spec = build::service_spec("web", 2);
    spec.task.reservations = build::resources(build::CPU, build::GIB);
    world.add_service(spec);
    world.converge();
    world
}

/// The state with every record passed through `change`.
pub(super) fn forged(state: &State, change: impl FnMut(Record) -> Record) -> State {
    State::from_records(state.records().map(change)).unwrap()
}

/// The state with the task of this name changed.
pub(super) fn with_task(world: &World, name: &str, change: impl Fn(&mut Task)) -> State {
    let id = world.task(name).id;
    forged(&world.state, |record| match record {
        Record::Task(task) if task.id == id => {
            let mut task = (*task).clone();
            change(&mut task);
            Record::Task(Arc::new(task))
        }
        other => other,
    })
}

/// The world with another state.
pub(super) fn world_with(world: &World, state: State) -> World {
    let mut world = world.clone();
    world.state = state;
    world
}
