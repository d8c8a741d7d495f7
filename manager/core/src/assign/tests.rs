use super::*;

#[test]
fn nothing_is_assigned_to_an_unknown_node() {
    let state = State::default();
    let empty = assignments(&state, NodeId::from_bits(1));
    assert!(empty.is_empty());
    assert!(difference(&empty, &empty).is_empty());
    assert_eq!(checksum(&empty), checksum::assignments([]));
}
