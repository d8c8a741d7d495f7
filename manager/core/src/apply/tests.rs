use std::collections::BTreeMap;

use coracle_model::id::{IdempotencyKey, NodeId};
use coracle_model::node::{
    Availability, ManagerMember, Node, NodeDescription, NodeSpec, NodeState, NodeStatus,
};
use coracle_model::role::Role;

use super::*;

fn node(id: u128) -> Node {
    Node {
        id: NodeId::from_bits(id),
        version: Version::default(),
        created_at: Timestamp::EPOCH,
        spec: NodeSpec { role: Role::Worker, availability: Availability::Active, labels: BTreeMap::new() },
        description: NodeDescription::default(),
        status: NodeStatus {
            state: NodeState::Unknown,
            since: Timestamp::EPOCH,
            message: String::new(),
            address: String::new(),
        },
        manager: None,
    }
}

fn proposal(changes: Vec<Change>) -> Proposal {
    Proposal {
        changes,
        actor: String::new(),
        reason: String::new(),
        time: Timestamp::from_secs(100),
        idempotency: None,
        term: 0,
    }
}

fn refusal(outcome: Outcome) -> RefusalKind {
    outcome.into_result().unwrap_err().kind
}

#[test]
fn a_refused_change_takes_the_whole_entry_with_it() {
    let mut state = State::default();
    apply(&mut state, 1, 1, &proposal(vec![Change::CreateNode(node(1))]));
    let before = state.clone();
    let (outcome, touched) =
        apply(&mut state, 2, 1, &proposal(vec![Change::CreateNode(node(2)), Change::CreateNode(node(1))]));
    assert_eq!(refusal(outcome), RefusalKind::Exists);
    assert!(touched.is_empty());
    assert_eq!(state.nodes().count(), 1);
    assert_eq!(state.time(), before.time());
    assert_eq!(state.index(), 2, "the entry was seen all the same");
}

#[test]
fn an_entry_of_another_term_is_refused() {
    let mut state = State::default();
    let entry = Proposal { term: 3, ..proposal(vec![Change::CreateNode(node(1))]) };
    assert_eq!(refusal(apply(&mut state, 1, 4, &entry).0), RefusalKind::NotLeader);
    assert!(matches!(apply(&mut state, 2, 3, &entry).0, Outcome::Applied(_)));
}

#[test]
fn a_repeated_write_gets_the_first_answer() {
    let mut state = State::default();
    let entry = Proposal {
        idempotency: Some(IdempotencyKey::from_bits(9)),
        ..proposal(vec![Change::CreateNode(node(1))])
    };
    assert_eq!(apply(&mut state, 7, 1, &entry).0, Outcome::Applied(Version::new(7)));
    let (outcome, touched) = apply(&mut state, 8, 1, &entry);
    assert_eq!(outcome, Outcome::Applied(Version::new(7)));
    assert!(touched.is_empty());
}

#[test]
fn a_refused_write_may_be_repeated() {
    let mut state = State::default();
    let key = Some(IdempotencyKey::from_bits(9));
    let status =
        Change::SetNodeStatus { node: NodeId::from_bits(1), state: NodeState::Ready, message: String::new() };
    let entry = Proposal { idempotency: key, ..proposal(vec![status]) };
    assert_eq!(refusal(apply(&mut state, 1, 1, &entry).0), RefusalKind::NotFound);
    apply(&mut state, 2, 1, &proposal(vec![Change::CreateNode(node(1))]));
    assert_eq!(apply(&mut state, 3, 1, &entry).0, Outcome::Applied(Version::new(3)));
}

#[test]
fn cluster_time_rises_even_when_clocks_do_not() {
    let mut state = State::default();
    apply(&mut state, 1, 1, &proposal(vec![Change::CreateNode(node(1))]));
    let first = state.time();
    apply(
        &mut state,
        2,
        1,
        &Proposal { time: Timestamp::EPOCH, ..proposal(vec![Change::CreateNode(node(2))]) },
    );
    assert!(state.time() > first);
    assert_eq!(state.node(NodeId::from_bits(2)).unwrap().created_at, state.time());
}

#[test]
fn a_stale_version_is_refused_with_both_versions() {
    let mut state = State::default();
    apply(&mut state, 1, 1, &proposal(vec![Change::CreateNode(node(1))]));
    let spec = node(1).spec;
    let change = Change::UpdateNodeSpec { node: NodeId::from_bits(1), expected: Version::new(5), spec };
    let refusal = apply(&mut state, 2, 1, &proposal(vec![change])).0.into_result().unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Stale);
    assert!(
        refusal.message.contains("update out of sequence") && refusal.message.contains("version 1, not 5")
    );
}

#[test]
fn a_manager_cannot_be_removed_and_raft_ids_are_not_shared() {
    let mut state = State::default();
    let member = ManagerMember { raft_id: 4, address: String::new() };
    let manager = Node { manager: Some(member.clone()), ..node(1) };
    apply(&mut state, 1, 1, &proposal(vec![Change::CreateNode(manager), Change::CreateNode(node(2))]));
    let remove = Change::RemoveNode { node: NodeId::from_bits(1), expected: Version::default() };
    assert_eq!(refusal(apply(&mut state, 2, 1, &proposal(vec![remove])).0), RefusalKind::Forbidden);
    let join = Change::SetManagerMember { node: NodeId::from_bits(2), member: Some(member) };
    assert_eq!(refusal(apply(&mut state, 3, 1, &proposal(vec![join])).0), RefusalKind::Exists);
}

#[test]
fn a_status_that_is_known_changes_nothing() {
    let mut state = State::default();
    apply(&mut state, 1, 1, &proposal(vec![Change::CreateNode(node(1))]));
    let change = Change::SetNodeStatus {
        node: NodeId::from_bits(1),
        state: NodeState::Unknown,
        message: String::new(),
    };
    let (outcome, touched) = apply(&mut state, 2, 1, &proposal(vec![change]));
    assert_eq!(outcome, Outcome::Applied(Version::new(2)));
    assert!(touched.is_empty());
    assert_eq!(state.node(NodeId::from_bits(1)).unwrap().version, Version::new(1));
}

#[test]
fn it_is_known_for_a_while_who_was_removed_or_left_raft() {
    let mut state = State::default();
    let member = ManagerMember { raft_id: 4, address: String::new() };
    let manager = Node { manager: Some(member), ..node(1) };
    apply(&mut state, 1, 1, &proposal(vec![Change::CreateNode(manager), Change::CreateNode(node(2))]));
    let gone = |state: &State, id: u128| state.departed_at(NodeId::from_bits(id)).map(Timestamp::as_secs);
    assert_eq!((gone(&state, 1), gone(&state, 2)), (None, None));
    let leave = Change::SetManagerMember { node: NodeId::from_bits(1), member: None };
    apply(&mut state, 2, 1, &Proposal { time: Timestamp::from_secs(200), ..proposal(vec![leave]) });
    assert_eq!(gone(&state, 1), Some(200));
    let remove = |id| Change::RemoveNode { node: NodeId::from_bits(id), expected: Version::default() };
    apply(&mut state, 3, 1, &Proposal { time: Timestamp::from_secs(300), ..proposal(vec![remove(1)]) });
    assert_eq!(gone(&state, 1), Some(300), "the later one counts");
    let much_later = Timestamp::from_secs(300 + 25 * 3600);
    apply(&mut state, 4, 1, &Proposal { time: much_later, ..proposal(vec![remove(2)]) });
    assert_eq!(gone(&state, 1), None, "the table stays small");
    assert_eq!(gone(&state, 2), Some(much_later.as_secs()));
}
