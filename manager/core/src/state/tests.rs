use super::*;

#[test]
fn records_without_a_header_make_no_state() {
    assert_eq!(State::from_records([]), Err(RestoreError::NoHeader));
    let header = || Record::Header { index: 1, time: Timestamp::EPOCH };
    assert_eq!(State::from_records([header(), header()]), Err(RestoreError::TwoHeaders));
}

#[test]
fn an_empty_state_comes_back() {
    let state = State::default();
    assert_eq!(State::from_records(state.records()), Ok(state));
}
