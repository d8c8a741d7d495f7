use coracle_manager_core::State;

/// A state comes back from its records, indices and all.
pub(crate) fn check(state: &State) {
    assert!(
        State::from_records(state.records()).as_ref() == Ok(state),
        "a snapshot does not restore the state"
    );
}
