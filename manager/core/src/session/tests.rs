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

fn known(number: u128, state: NodeState) -> Known {
    Known { id: id(number), state, manager: false, drained: false }
}

/// A leader of long standing with this many ready nodes, all with a session of their own number.
fn leader(nodes: u128) -> Liveness {
    let mut liveness =
        Liveness::new_leader(at(0), (1..=nodes).map(|n| known(n, NodeState::Ready)), settings());
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
    heard_but(&mut liveness, 5, &[1], at(2500));
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
    heard_but(&mut liveness, 5, &[1], at(2500));
    assert_eq!(down(&liveness.tick(at(3000))), [id(1)]);
    assert_eq!(down(&liveness.tick(at(3001))), [id(1)]);
    let stored = (1..=5).map(|n| known(n, if n == 1 { NodeState::Down } else { NodeState::Ready }));
    liveness.reconcile(stored, at(3002));
    assert!(liveness.tick(at(3002)).is_empty());
}

#[test]
fn a_node_is_ready_once_it_is_synced() {
    let mut liveness = Liveness::new_leader(at(0), [known(1, NodeState::Down)], settings());
    liveness.opened(id(1), session(1), at(10));
    assert!(liveness.tick(at(10)).is_empty());
    liveness.synced(id(1), session(1), at(20));
    assert_eq!(
        liveness.tick(at(20)),
        [Verdict { node: id(1), state: NodeState::Ready, message: String::new() }]
    );
}

#[test]
fn what_a_node_that_is_back_is_waited_for_is_told_once() {
    let mut liveness = leader(5);
    liveness
        .reconcile((1..=5).map(|n| known(n, if n == 1 { NodeState::Down } else { NodeState::Ready })), at(0));
    liveness.opened(id(1), session(9), at(0));
    let told = |liveness: &mut Liveness, time| {
        heard_but(liveness, 5, &[1], at(time));
        liveness.heard(id(1), session(9), at(time));
        liveness.tick(at(time))
    };
    assert!(told(&mut liveness, 4_000).is_empty());
    let verdicts = told(&mut liveness, 5_000);
    assert_eq!(down(&verdicts), [id(1)]);
    assert!(verdicts[0].message.contains("it is back"), "{}", verdicts[0].message);
    assert!(told(&mut liveness, 6_000).is_empty());
    liveness.synced(id(1), session(9), at(7_000));
    assert_eq!(told(&mut liveness, 7_000)[0].state, NodeState::Ready);
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
    let mut liveness = Liveness::new_leader(at(0), (1..=5).map(|n| known(n, NodeState::Ready)), settings());
    for number in 2..=5 {
        liveness.opened(id(number), session(number), at(8000));
    }
    assert!(liveness.tick(at(8999)).is_empty());
    assert_eq!(down(&liveness.tick(at(9000))), [id(1)]);
}

#[test]
fn a_node_that_joined_and_is_never_heard_goes_down() {
    let mut liveness = leader(1);
    liveness.reconcile([known(1, NodeState::Ready), known(2, NodeState::Unknown)], at(0));
    heard_but(&mut liveness, 1, &[], at(8000));
    let verdicts = liveness.tick(at(9000));
    assert_eq!(down(&verdicts), [id(2)]);
    assert_eq!(verdicts[0].message, NEVER_HEARD);
}

/// Opens another session, which is in step.
fn comes_back(liveness: &mut Liveness, number: u128, time: u64) {
    liveness.opened(id(number), session(100 + number), at(time));
    liveness.synced(id(number), session(100 + number), at(time));
}

#[test]
fn when_most_vanish_at_once_nobody_is_declared_down() {
    let mut liveness = leader(5);
    for number in 1..=3 {
        liveness.closed(id(number), session(number), at(0));
    }
    heard_but(&mut liveness, 5, &[1, 2, 3], at(2900));
    assert!(liveness.tick(at(3000)).is_empty());
    // One comes back: two of five are no storm. One of them follows, the other does not.
    comes_back(&mut liveness, 1, 4000);
    assert_eq!(down(&liveness.tick(at(4000))), []);
    assert_eq!(liveness.held(at(4000)), None);
    comes_back(&mut liveness, 2, 12_000);
    let rest = |liveness: &mut Liveness, time| {
        liveness.heard(id(1), session(101), at(time));
        liveness.heard(id(2), session(102), at(time));
        heard_but(liveness, 5, &[1, 2, 3], at(time));
        liveness.tick(at(time))
    };
    for time in (5000..13_000).step_by(1000) {
        assert_eq!(down(&rest(&mut liveness, time)), [], "at {time}");
    }
    assert_eq!(liveness.next_deadline(), Some(at(13_000)));
    let verdicts = rest(&mut liveness, 13_000);
    assert_eq!(down(&verdicts), [id(3)]);
    assert!(verdicts[0].message.contains("after the others"), "{}", verdicts[0].message);
}

/// A cut link closes no connection, and heartbeats do not come all at the same moment: the first node's silence is complete up to a
/// period before the last one's.
#[test]
fn a_cut_link_is_a_storm_although_heartbeats_are_spread() {
    for spread in [[0, 0, 0], [0, 700, 1499], [1400, 20, 0], [0, 1, 1499]] {
        let mut liveness = leader(5);
        for (number, last) in (1..=3).zip(spread) {
            liveness.heard(id(number), session(number), at(last));
        }
        for time in (1500..20_000).step_by(100) {
            heard_but(&mut liveness, 5, &[1, 2, 3], at(time));
            assert_eq!(down(&liveness.tick(at(time))), [], "{spread:?} at {time}");
        }
        assert!(liveness.held(at(20_000)).is_some(), "{spread:?}");
    }
}

#[test]
fn two_of_five_whose_link_is_cut_are_down() {
    let mut liveness = leader(5);
    liveness.heard(id(2), session(2), at(1000));
    let mut lost = Vec::new();
    for time in (1500..7000).step_by(100) {
        // The others' heartbeats come once a period, not at every look.
        if time % 1500 == 0 {
            heard_but(&mut liveness, 5, &[1, 2], at(time));
        }
        lost.extend(down(&liveness.tick(at(time))).into_iter().map(|node| (node, time)));
    }
    assert_eq!(lost.iter().find(|(node, _)| *node == id(1)), Some(&(id(1), 4500)));
    assert_eq!(lost.iter().find(|(node, _)| *node == id(2)), Some(&(id(2), 5500)));
}

#[test]
fn a_storm_that_lasts_is_believed() {
    let mut liveness = leader(4);
    for number in 1..=3 {
        liveness.closed(id(number), session(number), at(0));
    }
    let hold = u64::try_from(LONGEST_HOLD.as_millis()).unwrap();
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

/// A leader with managers 1 to 3 and workers up to `nodes`, all of them in step.
fn leader_of_managers(nodes: u128) -> Liveness {
    let mut liveness = leader(nodes);
    liveness.reconcile((1..=nodes).map(|n| Known { manager: n <= 3, ..known(n, NodeState::Ready) }), at(0));
    liveness
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap()
}

/// Lets the nodes but those given be heard until then; nobody goes down meanwhile.
fn hold_until(liveness: &mut Liveness, nodes: u128, silent: &[u128], from: u64, until: u64) {
    for time in (from..until).step_by(1000) {
        heard_but(liveness, nodes, silent, at(time));
        assert_eq!(down(&liveness.tick(at(time))), [], "at {time}");
    }
    heard_but(liveness, nodes, silent, at(until - 1));
    assert_eq!(down(&liveness.tick(at(until - 1))), []);
}

#[test]
fn while_most_managers_and_a_worker_are_here_a_storm_is_soon_believed() {
    // Seven nodes: a manager and three workers truly die.
    let (mut liveness, dead) = (leader_of_managers(7), [3, 4, 5, 6]);
    for number in dead {
        liveness.closed(id(number), session(number), at(0));
    }
    hold_until(&mut liveness, 7, &dead, 1000, 3000);
    assert_eq!(liveness.held(at(2999)), None, "nobody would be declared down yet");
    let end = 3000 + milliseconds(SHORT_HOLD);
    hold_until(&mut liveness, 7, &dead, 3000, end);
    let missed = dead.map(id).to_vec();
    let held = Held { until: at(end), longest: LONGEST_HOLD, missed, nodes: 7, grounded: true };
    assert_eq!(liveness.held(at(end - 1)), Some(held));
    assert_eq!(liveness.next_deadline(), Some(at(end)));
    assert_eq!(down(&liveness.tick(at(end))).len(), 4);
    assert_eq!(liveness.held(at(end)), None);
}

#[test]
fn a_leader_that_has_no_worker_or_few_managers_waits_long() {
    for dead in [vec![4, 5, 6, 7], vec![2, 3, 4, 5]] {
        let mut liveness = leader_of_managers(7);
        for number in &dead {
            liveness.closed(id(*number), session(*number), at(0));
        }
        let end = 3000 + milliseconds(LONGEST_HOLD);
        hold_until(&mut liveness, 7, &dead, 1000, end);
        assert!(liveness.held(at(end - 1)).is_some_and(|held| !held.grounded));
        assert_eq!(down(&liveness.tick(at(end))).len(), 4, "{dead:?}");
    }
}

#[test]
fn who_is_here_must_be_here_all_the_time() {
    let (mut liveness, dead) = (leader_of_managers(7), [4, 5, 6]);
    for number in dead.into_iter().chain([7]) {
        liveness.closed(id(number), session(number), at(0));
    }
    // The last worker comes back after twenty seconds: half a minute begins then.
    hold_until(&mut liveness, 7, &[4, 5, 6, 7], 1000, 20_000);
    assert!(liveness.held(at(19_999)).is_some_and(|held| !held.grounded));
    liveness.opened(id(7), session(7), at(20_000));
    // It does not count before it is in step; three of seven would be no storm, so that a fourth goes.
    liveness.closed(id(3), session(3), at(20_000));
    hold_until(&mut liveness, 7, &[3, 4, 5, 6], 20_000, 25_000);
    assert!(liveness.held(at(24_999)).is_some_and(|held| !held.grounded));
    liveness.synced(id(7), session(7), at(25_000));
    let end = 25_000 + milliseconds(SHORT_HOLD);
    hold_until(&mut liveness, 7, &[3, 4, 5, 6], 25_000, end);
    assert_eq!(down(&liveness.tick(at(end))).len(), 4);
}

/// Drains a node in the store of [`leader_of_managers`].
fn drain(liveness: &mut Liveness, nodes: u128, drained: &[u128], down: &[u128], now: Timestamp) {
    let state = |n| if down.contains(&n) { NodeState::Down } else { NodeState::Ready };
    let known = |n| Known { manager: n <= 3, drained: drained.contains(&n), ..known(n, state(n)) };
    liveness.reconcile((1..=nodes).map(known), now);
}

#[test]
fn an_operator_who_drains_a_node_knows_that_it_is_gone() {
    let (mut liveness, dead) = (leader_of_managers(7), [3, 4, 5, 6, 7]);
    for number in dead {
        liveness.closed(id(number), session(number), at(0));
    }
    hold_until(&mut liveness, 7, &dead, 1000, 4000);
    drain(&mut liveness, 7, &[4], &[], at(4000));
    assert_eq!(liveness.next_deadline(), Some(at(3000)), "there is something to do at once");
    assert_eq!(down(&liveness.tick(at(4000))), [id(4)], "the others are held back");
    // Three of six are no storm any more: what the operator knows of two is believed of the rest.
    drain(&mut liveness, 7, &[4, 5], &[4], at(5000));
    heard_but(&mut liveness, 7, &dead, at(5000));
    assert_eq!(down(&liveness.tick(at(5000))).len(), 4);
}

#[test]
fn nodes_that_are_drained_and_switched_off_are_no_storm() {
    let (mut liveness, dead) = (leader_of_managers(7), [4, 5, 6, 7]);
    drain(&mut liveness, 7, &dead, &[], at(0));
    for number in dead {
        liveness.closed(id(number), session(number), at(0));
    }
    heard_but(&mut liveness, 7, &dead, at(3000));
    assert_eq!(down(&liveness.tick(at(3000))).len(), 4);
    assert_eq!(liveness.held(at(3000)), None);
}

#[test]
fn holds_keep_their_proportion() {
    assert_eq!(Holds::with_short(SHORT_HOLD), Holds::default());
    assert_eq!(Holds::with_short(Duration::from_secs(3)).longest, Duration::from_secs(30));
}

#[test]
fn nothing_makes_a_hold_longer_than_the_longest() {
    let (mut liveness, dead) = (leader_of_managers(9), [4, 5, 6, 7, 8, 9]);
    for number in dead {
        liveness.closed(id(number), session(number), at(0));
    }
    hold_until(&mut liveness, 9, &dead, 1000, 290_000);
    // A worker is back a little before the end: half a minute from now on would be too long.
    comes_back(&mut liveness, 9, 290_000);
    let end = 3000 + milliseconds(LONGEST_HOLD);
    for time in (290_000..end).step_by(1000) {
        liveness.heard(id(9), session(109), at(time));
        heard_but(&mut liveness, 9, &dead, at(time));
        assert_eq!(down(&liveness.tick(at(time))), [], "at {time}");
    }
    assert!(liveness.held(at(end - 1)).is_some_and(|held| held.grounded && held.until == at(end)));
    assert_eq!(down(&liveness.tick(at(end))).len(), 5);
}

#[test]
fn a_leader_that_stood_still_blames_nobody() {
    let stall = Duration::from_secs(10);
    let asleep = |excused: bool| {
        let mut liveness = leader(2);
        heard_but(&mut liveness, 2, &[], at(1000));
        assert!(liveness.tick(at(2000)).is_empty());
        if excused {
            liveness.excuse(stall, at(12_000));
        }
        (down(&liveness.tick(at(12_000))), liveness)
    };
    assert_eq!(asleep(false).0, [id(1), id(2)]);
    let (gone, mut liveness) = asleep(true);
    assert_eq!(gone, []);
    // The time before the stall counts, and what comes after it: three periods of silence are three periods.
    assert!(liveness.heard(id(1), session(1), at(12_100)));
    assert!(liveness.tick(at(15_499)).is_empty());
    assert_eq!(down(&liveness.tick(at(15_500))), [id(2)]);
}

#[test]
fn a_stall_makes_nobody_heard_in_the_future() {
    let mut liveness = leader(5);
    // What had queued up is read before the stall is noticed.
    heard_but(&mut liveness, 5, &[], at(10_000));
    liveness.closed(id(2), session(2), at(10_000));
    liveness.excuse(Duration::from_secs(10), at(10_000));
    heard_but(&mut liveness, 5, &[1, 2], at(12_000));
    assert!(liveness.tick(at(12_999)).is_empty());
    assert_eq!(down(&liveness.tick(at(13_000))), [id(2)], "one grace from the moment it closed");
    heard_but(&mut liveness, 5, &[1, 2], at(14_000));
    assert_eq!(down(&liveness.tick(at(14_499))), [id(2)]);
    assert_eq!(down(&liveness.tick(at(14_500))), [id(1), id(2)], "silent since the stall at the latest");
}
