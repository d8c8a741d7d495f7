//! What a cluster of managers does when something happens to it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;

use super::lab::{Lab, ListState, PATIENCE};
use crate::raft::{ConnectError, Limits, PeerConnector, RaftError, RaftNode, RaftStartError, RaftStatus};

fn command(number: u64) -> Bytes {
    Bytes::from(format!("command {number}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_is_replaced_and_comes_back_with_its_state() {
    let mut lab = Lab::new(3).await;
    for number in 0..20 {
        lab.write(command(number)).await;
    }
    let first = lab.leader().await;
    let term = lab.running[&first].status().term;
    lab.kill(first).await;
    for number in 20..40 {
        lab.write(command(number)).await;
    }
    assert!(lab.running[&lab.leader().await].status().term > term);
    lab.start(first).await;
    let all: Vec<_> = (0..40).map(command).collect();
    for manager in lab.running.values() {
        manager.applied(40).await;
        assert_eq!(manager.state.commands(), all);
    }
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_come_back_after_all_stopped() {
    let mut lab = Lab::new(3).await;
    for number in 0..10 {
        lab.write(command(number)).await;
    }
    for raft_id in 1..=3 {
        lab.kill(raft_id).await;
    }
    for raft_id in 1..=3 {
        lab.start(raft_id).await;
    }
    let leader = lab.leader().await;
    let node = lab.running[&leader].node.clone();
    node.read_barrier(PATIENCE).await.unwrap();
    assert_eq!(lab.running[&leader].state.commands().len(), 10, "a read after the barrier sees every write");
    lab.write(command(10)).await;
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_leader_has_to_be_elected_again() {
    let mut lab = Lab::new(1).await;
    lab.write(command(0)).await;
    let term = lab.running[&1].status().term;
    lab.kill(1).await;
    lab.start(1).await;
    lab.leader().await;
    // With openraft's default (`enable_leader_restore`) it would go on leading in its old term.
    assert!(lab.running[&1].status().term > term);
    lab.running[&1].node.read_barrier(PATIENCE).await.unwrap();
    assert_eq!(lab.running[&1].state.commands(), [command(0)]);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proposals_in_flight_share_syncs_and_keep_their_order() {
    let lab = Lab::new(3).await;
    let leader = lab.leader().await;
    let node = &lab.running[&leader].node;
    let before = node.log_stats();
    let replies = join_all((0..500).map(|number| node.propose(command(number), PATIENCE))).await;
    let indices: BTreeSet<u64> = replies.into_iter().map(|reply| reply.unwrap().index).collect();
    assert_eq!(indices.len(), 500);
    let after = node.log_stats();
    assert!(after.syncs - before.syncs < 250, "{before:?} {after:?}");
    let reference = lab.running[&leader].state.commands();
    for manager in lab.running.values() {
        manager.applied(500).await;
        assert_eq!(manager.state.commands(), reference);
    }
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_missed_too_much_gets_a_snapshot() {
    let limits = Limits { snapshot_entries: 50, keep_entries: 5, ..Limits::default() };
    let mut lab = Lab::with_limits(3, limits).await;
    lab.kill(3).await;
    // Over a megabyte, so that the snapshot has more than one piece.
    let large = Bytes::from(vec![7; 20_000]);
    for _ in 0..150 {
        lab.write(large.clone()).await;
    }
    let leader = lab.leader().await;
    lab.running[&leader].eventually("a snapshot is made", |status| status.snapshot > Some(60)).await;
    lab.running[&leader].log_begins_after(40).await;
    lab.start(3).await;
    lab.running[&3].applied(150).await;
    assert!(lab.running[&3].state.restored() > 0);
    assert_eq!(lab.running[&3].state.commands(), lab.running[&leader].state.commands());

    // And it starts from what it received.
    lab.kill(3).await;
    lab.start(3).await;
    lab.write(command(1)).await;
    lab.running[&3].applied(151).await;
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_off_follower_does_not_make_the_log_grow() {
    let limits = Limits { snapshot_entries: 50, keep_entries: 5, ..Limits::default() };
    let lab = Lab::with_limits(3, limits).await;
    let leader = lab.leader().await;
    let other = (1..=3).find(|raft_id| *raft_id != leader).unwrap();
    lab.cut(other);
    for number in 0..200 {
        lab.write(command(number)).await;
    }
    lab.running[&leader].log_begins_after(100).await;
    lab.heal();
    lab.running[&other].applied(200).await;
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_are_made_by_bytes() {
    let limits = Limits { snapshot_bytes: 200_000, ..Limits::default() };
    let lab = Lab::with_limits(1, limits).await;
    for _ in 0..30 {
        lab.write(Bytes::from(vec![1; 10_000])).await;
    }
    lab.running[&1].eventually("a snapshot is made", |status| status.snapshot.is_some()).await;
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_moved_keeps_its_vote_at_its_new_address() {
    let lab = Lab::new(3).await;
    let leader = lab.leader().await;
    let other = (1..=3).find(|raft_id| *raft_id != leader).unwrap();
    let node = &lab.running[&leader].node;
    for (raft_id, address) in [(other, "127.0.0.1:2"), (leader, "127.0.0.1:1")] {
        node.set_address(raft_id, address, PATIENCE).await.unwrap();
        let moved = |status: &RaftStatus| status.members.voters.get(&raft_id).is_some_and(|at| at == address);
        let status = lab.running[&leader].eventually("the new address is known", moved).await;
        assert_eq!(status.members.voters.len(), 3);
        assert_eq!(status.members.changing_to, None);
    }
    lab.write(command(0)).await;
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_over() {
    let lab = Lab::new(3).await;
    let first = lab.leader().await;
    lab.write(command(0)).await;
    let new = lab.running[&first].node.transfer_leader(PATIENCE).await.unwrap();
    assert_ne!(new.raft_id, first);
    assert_eq!(new.address, lab.address(new.raft_id));
    lab.write(command(1)).await;
    let refused = lab.running[&first].node.propose(command(2), PATIENCE).await;
    assert!(matches!(refused, Err(RaftError::NotLeader { leader: Some(_) })), "{refused:?}");
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_that_was_cut_off_does_not_unseat_the_leader() {
    let lab = Lab::new(3).await;
    let leader = lab.leader().await;
    let other = (1..=3).find(|raft_id| *raft_id != leader).unwrap();
    let term = lab.running[&leader].status().term;
    lab.cut(other);
    // Several election time-outs: without Pre-Vote its term would grow with each. There is no condition to wait for,
    // since nothing must happen.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(
        lab.running[&other].status().term,
        term,
        "a manager that nobody hears must not raise its term"
    );
    lab.heal();
    lab.write(command(0)).await;
    lab.running[&other].applied(1).await;
    assert_eq!(lab.leader().await, leader);
    assert_eq!(lab.running[&leader].status().term, term);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_nothing_is_confirmed() {
    let mut lab = Lab::new(3).await;
    lab.write(command(0)).await;
    let leader = lab.leader().await;
    for raft_id in (1..=3).filter(|raft_id| *raft_id != leader) {
        lab.kill(raft_id).await;
    }
    let node = &lab.running[&leader].node;
    let written = node.propose(command(1), Duration::from_secs(1)).await;
    assert!(
        matches!(
            written,
            Err(RaftError::OutcomeUnknown { .. }
                | RaftError::Unavailable { .. }
                | RaftError::NotLeader { .. })
        ),
        "{written:?}"
    );
    let read = node.read_barrier(Duration::from_secs(1)).await;
    assert!(matches!(read, Err(RaftError::Unavailable { .. } | RaftError::NotLeader { .. })), "{read:?}");
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go() {
    let mut lab = Lab::new(1).await;
    for number in 0..5 {
        lab.write(command(number)).await;
    }
    let first = lab.running[&1].node.clone();
    lab.start(2).await;
    first.add_learner(2, &lab.address(2), PATIENCE).await.unwrap();
    lab.running[&2].applied(5).await;
    assert!(lab.running[&1].status().members.learners.contains_key(&2));
    first.promote(2, PATIENCE).await.unwrap();
    assert_eq!(lab.running[&1].status().members.voters.len(), 2);

    // A leader that is to go hands over first.
    let answer = first.remove(1, PATIENCE).await;
    let Err(RaftError::NotLeader { leader: Some(leader) }) = answer else { panic!("{answer:?}") };
    assert_eq!(leader.raft_id, 2);
    lab.running[&2].eventually("2 leads", RaftStatus::is_leader).await;
    let second = lab.running[&2].node.clone();
    second.remove(1, PATIENCE).await.unwrap();
    let members = lab.running[&2].status().members;
    assert_eq!(members.voters.keys().collect::<Vec<_>>(), [&2]);
    assert_eq!(members.address(1), None);
    let last = second.change_voters(BTreeSet::new(), PATIENCE).await;
    assert!(matches!(last, Err(RaftError::Refused { .. })), "{last:?}");
    lab.kill(1).await;
    lab.write(command(5)).await;
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_initialize_and_a_large_command_are_refused() {
    let lab = Lab::new(1).await;
    let node = &lab.running[&1].node;
    assert!(!node.initialize("127.0.0.1:1").await.unwrap());
    let refused = node.propose(Bytes::from(vec![0; (3 << 19) + 1]), PATIENCE).await;
    assert!(matches!(refused, Err(RaftError::TooLarge { .. })));
    node.propose(Bytes::from(vec![0; 3 << 19]), PATIENCE).await.unwrap();
    lab.stop().await;
}

struct NoConnector;

impl PeerConnector for NoConnector {
    fn channel(&self, _raft_id: u64, _address: &str) -> Result<tonic::transport::Channel, ConnectError> {
        Err("there is nobody".into())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_managers_directory_and_a_lost_log_are_refused() {
    let mut lab = Lab::new(1).await;
    lab.write(command(0)).await;
    lab.kill(1).await;
    let start = async |config| {
        RaftNode::start(config, lab.ring(1), Arc::new(ListState::default()), Arc::new(NoConnector)).await
    };
    let mut config = lab.config(1);
    config.raft_id = 2;
    assert!(matches!(start(config).await, Err(RaftStartError::OtherIdentity { .. })));
    let log = lab.directory(1).join("log");
    std::fs::rename(&log, lab.directory(1).join("gone")).unwrap();
    assert!(matches!(start(lab.config(1)).await, Err(RaftStartError::LogLost { raft_id: 1, .. })));
    assert!(!log.exists(), "no empty log was put in its place");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_snapshot_is_refused_or_replaced_by_what_is_older() {
    let limits = Limits { snapshot_entries: 20, keep_entries: 3, ..Limits::default() };
    let mut lab = Lab::with_limits(1, limits).await;
    for number in 0..100 {
        lab.write(command(number)).await;
    }
    // The log ends with entry 100, so none follows this snapshot.
    lab.running[&1].eventually("snapshots are made", |status| status.snapshot > Some(90)).await;
    lab.running[&1].log_begins_after(80).await;
    lab.kill(1).await;
    let mut names: Vec<_> = std::fs::read_dir(lab.directory(1).join("snapshots"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    assert_eq!(names.len(), 2, "the newest and the one before: {names:?}");
    let mut bytes = std::fs::read(&names[1]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&names[1], bytes).unwrap();
    let started =
        RaftNode::start(lab.config(1), lab.ring(1), Arc::new(ListState::default()), Arc::new(NoConnector))
            .await;
    // The log before the newest snapshot is gone, so the older one does not reach it.
    assert!(matches!(started, Err(RaftStartError::SnapshotDamaged { .. })), "{started:?}");
}
