use super::*;

#[test]
fn a_service_that_is_gone_with_all_its_tasks_has_converged() {
    let state = State::default();
    let progress = progress(&state, ServiceId::from_bits(1));
    assert!(progress.converged);
    assert_eq!((progress.remaining, progress.counts), (0, Counts::default()));
}
