use super::*;

const PERIOD: Duration = Duration::from_millis(1500);
const GRACE: Duration = Duration::from_secs(3);

fn settings() -> Settings {
    Settings { heartbeat_period: PERIOD, grace: GRACE }
}

fn at(milliseconds: u64) -> Timestamp {
    Timestamp::from_secs(1000).after(Duration::from_millis(milliseconds))
}

fn id(number: u128) -> NodeId {
    NodeId::from_bits(number)
}

fn session(number: u128) -> SessionId {
    SessionId::from_bits(number)
}

/// A leader of long standing with this many ready nodes, all with a session of their own number.
fn leader(nodes: u128) -> Liveness {
    let mut liveness =
        Liveness::new_leader(at(0), (1..=nodes).map(|n| (id(n), NodeState::Ready)), settings());
    for number in 1..=nodes {
        liveness.opened(id(number), session(number), at(0));
        liveness.synced(id(number), session(number), at(0));
    }
    liveness
}

fn down(verdicts: &[Verdict]) -> Vec<NodeId> {
    verdicts.iter().filter(|verdict| verdict.state == NodeState::Down).map(|verdict| verdict.node).collect()
}

/// Every node but those given is heard.
fn heard_but(liveness: &mut Liveness, nodes: u128, silent: &[u128], now: Timestamp) {
    for number in (1..=nodes).filter(|number| !silent.contains(number)) {
        liveness.heard(id(number), session(number), now);
    }
}

#[test]
fn a_closed_session_ends_in_down_after_the_grace() {
    let mut liveness = leader(5);
    liveness.closed(id(1), session(1), at(100));
    assert_eq!(liveness.next_deadline(), Some(at(3100)));
    assert!(liveness.tick(at(3099)).is_empty());
    let verdicts = liveness.tick(at(3100));
    assert_eq!(down(&verdicts), [id(1)]);
    assert!(verdicts[0].message.contains("closed"), "{}", verdicts[0].message);
}

#[test]
fn silence_of_three_periods_has_the_same_end() {
    let mut liveness = leader(5);
    heard_but(&mut liveness, 5, &[2], at(3000));
    assert!(liveness.tick(at(4499)).is_empty());
    assert_eq!(down(&liveness.tick(at(4500))), [id(2)]);
    assert!(!liveness.heard(id(2), session(2), at(4600)), "its session is over");
}

#[test]
fn a_verdict_is_repeated_until_it_is_stored() {
    let mut liveness = leader(5);
    liveness.closed(id(1), session(1), at(0));
    assert_eq!(down(&liveness.tick(at(3000))), [id(1)]);
    assert_eq!(down(&liveness.tick(at(3001))), [id(1)]);
    let stored = (1..=5).map(|n| (id(n), if n == 1 { NodeState::Down } else { NodeState::Ready }));
    liveness.reconcile(stored, at(3002));
    assert!(liveness.tick(at(3002)).is_empty());
}

#[test]
fn a_node_is_ready_once_it_is_synced() {
    let mut liveness = Liveness::new_leader(at(0), [(id(1), NodeState::Down)], settings());
    liveness.opened(id(1), session(1), at(10));
    assert!(liveness.tick(at(10)).is_empty());
    liveness.synced(id(1), session(1), at(20));
    assert_eq!(
        liveness.tick(at(20)),
        [Verdict { node: id(1), state: NodeState::Ready, message: String::new() }]
    );
}

#[test]
fn the_end_of_a_stale_session_means_nothing() {
    let mut liveness = leader(5);
    liveness.opened(id(1), session(77), at(100));
    liveness.closed(id(1), session(1), at(200));
    assert!(liveness.is_connected(id(1)));
    assert!(!liveness.heard(id(1), session(1), at(300)));
    heard_but(&mut liveness, 5, &[1], at(3000));
    liveness.heard(id(1), session(77), at(3000));
    assert!(liveness.tick(at(4400)).is_empty());
}

#[test]
fn a_new_leader_gives_nodes_time_to_appear() {
    let mut liveness = Liveness::new_leader(at(0), (1..=5).map(|n| (id(n), NodeState::Ready)), settings());
    for number in 2..=5 {
        liveness.opened(id(number), session(number), at(8000));
    }
    assert!(liveness.tick(at(8999)).is_empty());
    assert_eq!(down(&liveness.tick(at(9000))), [id(1)]);
}

#[test]
fn a_node_that_joined_and_is_never_heard_goes_down() {
    let mut liveness = leader(1);
    liveness.reconcile([(id(1), NodeState::Ready), (id(2), NodeState::Unknown)], at(0));
    heard_but(&mut liveness, 1, &[], at(8000));
    let verdicts = liveness.tick(at(9000));
    assert_eq!(down(&verdicts), [id(2)]);
    assert_eq!(verdicts[0].message, NEVER_HEARD);
}

#[test]
fn when_most_vanish_at_once_nobody_is_declared_down() {
    let mut liveness = leader(5);
    for number in 1..=3 {
        liveness.closed(id(number), session(number), at(0));
    }
    heard_but(&mut liveness, 5, &[1, 2, 3], at(2900));
    assert!(liveness.tick(at(3000)).is_empty());
    // One comes back: two of five are no storm, and they are down.
    liveness.opened(id(1), session(11), at(4000));
    liveness.synced(id(1), session(11), at(4000));
    heard_but(&mut liveness, 5, &[1, 2, 3], at(4000));
    assert_eq!(down(&liveness.tick(at(4001))), [id(2), id(3)]);
}

#[test]
fn a_storm_that_lasts_is_believed() {
    let mut liveness = leader(4);
    for number in 1..=3 {
        liveness.closed(id(number), session(number), at(0));
    }
    let hold = u64::try_from(storm::LONGEST_HOLD.as_millis()).unwrap();
    liveness.heard(id(4), session(4), at(3000));
    assert!(liveness.tick(at(3000)).is_empty());
    assert_eq!(liveness.next_deadline(), Some(at(3000 + hold)));
    liveness.heard(id(4), session(4), at(3000 + hold));
    assert_eq!(down(&liveness.tick(at(3000 + hold))).len(), 3);
    assert_eq!(down(&liveness.tick(at(3001 + hold))).len(), 3, "until it is stored");
}

#[test]
fn two_nodes_are_no_storm() {
    let mut liveness = leader(2);
    liveness.closed(id(1), session(1), at(0));
    liveness.closed(id(2), session(2), at(0));
    assert_eq!(down(&liveness.tick(at(3000))).len(), 2);
}

#[test]
fn the_period_grows_with_the_cluster() {
    assert_eq!(leader(5).period(), PERIOD);
    assert_eq!(leader(10_000).period(), Duration::from_secs(10));
}
