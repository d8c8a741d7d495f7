use coracle_manager_core::State;

/// Neither what is wanted of a task nor how far it is ever goes back, and it never moves.
pub(crate) fn check(before: &State, after: &State) {
    for old in before.tasks() {
        let Some(new) = after.task(old.id) else { continue };
        assert!(new.desired >= old.desired, "desired state went back: {old:?} {new:?}");
        assert!(new.status.state >= old.status.state, "state went back: {old:?} {new:?}");
        assert!(old.node.is_none() || new.node == old.node, "task moved: {old:?} {new:?}");
        assert_eq!((old.slot, old.spec_version), (new.slot, new.spec_version));
    }
}
