use coracle_manager_core::State;
use coracle_model::resources::Resources;

/// The tasks that may run on a node reserve no more than it has, and the index says the same.
pub(crate) fn check(state: &State) {
    for node in state.nodes() {
        let reserved = state
            .tasks_on_node(node.id)
            .filter(|task| task.may_run())
            .filter_map(|task| state.task_spec(task.service, task.spec_version))
            .fold(Resources::default(), |sum, spec| sum.plus(spec.reservations));
        let has = node.description.resources;
        assert!(
            reserved.cpu <= has.cpu && reserved.memory <= has.memory,
            "{} has {has:?}, {reserved:?} reserved",
            node.id
        );
        assert_eq!(state.usage(node.id).reserved, reserved);
    }
}
