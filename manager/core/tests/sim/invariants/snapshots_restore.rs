use coracle_manager_core::State;
use coracle_manager_core::state::Record;

use super::Checked;

/// A state comes back from its records, indices and all.
pub(crate) fn check(state: &State) -> Checked {
    check_records(state, state.records())
}

fn check_records(state: &State, records: impl Iterator<Item = Record>) -> Checked {
    match State::from_records(records) {
        Ok(restored) if restored == *state => Ok(()),
        Ok(_) => Err("a snapshot restores another state".to_owned()),
        Err(error) => Err(format!("a snapshot does not restore: {error}")),
    }
}

#[test]
fn it_sees_a_record_that_is_missing() {
    let world = super::forge::running();
    let state = &world.state;
    assert_eq!(check(state), Ok(()));
    for left_out in 0..state.records().count() {
        let rest = state.records().enumerate().filter(|(at, _)| *at != left_out).map(|(_, record)| record);
        assert!(check_records(state, rest).is_err(), "record {left_out} is not missed");
    }
}
