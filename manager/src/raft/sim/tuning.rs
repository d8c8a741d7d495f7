//! Each setting and override that openraft has another default for: what goes wrong with that default.
//!
//! Settings are put back to their default in the test itself, which must then fail.

use std::collections::BTreeMap;
use std::time::Duration;

use openraft::{Config, SnapshotPolicy};

use super::cluster::{roomy, small};
use super::host::Setup;
use super::runtime::now;
use super::seeds::run;
use super::world::{PATIENCE, Watch, World};
use crate::raft::RaftError;
use crate::raft::settings::BATCH_BYTES;

fn tuned(mut setup: Setup, tune: fn(&mut Config)) -> Setup {
    tune(&mut setup.settings);
    setup
}

fn as_set(_: &mut Config) {}

/// One follower of the leader.
fn follower(world: &World) -> Result<(u64, u64), String> {
    let leader = world.leader().ok_or("nobody leads")?;
    let other = (1..=3).find(|raft_id| *raft_id != leader).ok_or("alone")?;
    Ok((leader, other))
}

fn term(world: &World, raft_id: u64) -> u64 {
    world.running(raft_id).map_or(0, |running| running.status().term)
}

/// `enable_pre_vote` and `Peer::pre_vote`: nobody raises its term alone.
async fn cut_off(tune: fn(&mut Config)) -> Result<(), String> {
    let mut watch = Watch::over(1, tuned(roomy(), tune), 3).await?;
    let world = watch.world.clone();
    let (leader, other) = follower(&world)?;
    let before = term(&world, leader);
    world.network.change(&[1, 2, 3], |from, to| from == other || to == other, |way| way.cut = true);
    watch.wait(Duration::from_secs(10)).await?;
    let alone = term(&world, other);
    world.network.heal();
    watch.write().await?;
    watch.wait(Duration::from_secs(1)).await?;
    match (alone, term(&world, leader), world.leader()) {
        (alone, after, Some(leads)) if alone == before && after == before && leads == leader => Ok(()),
        (alone, after, leads) => Err(format!("term {before}, alone {alone}, then {after}; {leads:?} leads")),
    }
}

#[test]
fn who_is_cut_off_unseats_nobody() {
    run(1, cut_off(as_set)).unwrap();
    run(1, cut_off(|config| config.enable_pre_vote = None)).unwrap_err();
}

/// `enable_leader_restore`: a leader that starts again has to be elected.
async fn restarted_leader(tune: fn(&mut Config)) -> Result<(), String> {
    let mut watch = Watch::over(1, tuned(roomy(), tune), 3).await?;
    let world = watch.world.clone();
    watch.write().await?;
    let leader = world.leader().ok_or("nobody leads")?;
    let before = term(&world, leader);
    world.crash(leader, false);
    world.start(leader).await;
    watch.until("somebody leads", PATIENCE, |world| world.leader().is_some()).await?;
    match world.leader().map(|leader| term(&world, leader)) {
        Some(after) if after > before => Ok(()),
        after => Err(format!("it led on in term {before}: {after:?}")),
    }
}

#[test]
fn a_leader_that_starts_again_is_elected_again() {
    run(1, restarted_leader(as_set)).unwrap();
    run(1, restarted_leader(|config| config.enable_leader_restore = None)).unwrap_err();
}

/// `LogStore::save_committed`: who starts again shows what it knew to be committed, before it hears of a leader.
async fn known_committed(seed: u64) -> Result<(), String> {
    let mut watch = Watch::over(seed, roomy(), 3).await?;
    let world = watch.world.clone();
    let mut last = 0;
    for _ in 0..10 {
        last = watch.write().await?;
    }
    watch.wait(Duration::from_secs(1)).await?;
    let (_, other) = follower(&world)?;
    world.crash(other, true);
    world.network.change(&[1, 2, 3], |from, to| from == other || to == other, |way| way.cut = true);
    world.start(other).await;
    watch
        .until("what was committed is applied", PATIENCE, |world| {
            world.running(other).is_some_and(|running| running.state.registers().index >= last)
        })
        .await
        .map(|_| ())
}

#[test]
fn what_was_known_to_be_committed_is_shown_after_a_restart() {
    run(1, known_committed(1)).unwrap();
}

/// Who starts again serves no read from a state that is older than what it showed before.
async fn no_early_read(seed: u64) -> Result<(), String> {
    let mut watch = Watch::over(seed, roomy(), 1).await?;
    let world = watch.world.clone();
    let mut last = 0;
    for _ in 0..10 {
        last = watch.write().await?;
    }
    world.crash(1, false);
    world.start(1).await;
    let running = world.running(1).ok_or("gone")?;
    let read = watch
        .during(async move {
            running
                .ask(|process| async move {
                    // Asked before there is a leader, and until there is one.
                    let mut index = process.node.read_barrier(PATIENCE).await;
                    while matches!(index, Err(RaftError::NotLeader { .. })) {
                        super::runtime::sleep(Duration::from_millis(1)).await;
                        index = process.node.read_barrier(PATIENCE).await;
                    }
                    (index, process.state.registers().index)
                })
                .await
        })
        .await?;
    match read {
        Some((Ok(index), seen)) if index >= last && seen >= last => Ok(()),
        other => Err(format!("{last} was written, and the read gave {other:?}")),
    }
}

#[test]
fn a_read_after_a_restart_shows_what_was_there_before() {
    run(1, no_early_read(1)).unwrap();
}

/// `new_heartbeat_client`: heartbeats do not wait behind entries, so that a leader with slow followers stays.
async fn slow_followers(seed: u64) -> Result<(), String> {
    let mut watch = Watch::over(seed, roomy(), 3).await?;
    let world = watch.world.clone();
    let (leader, _) = follower(&world)?;
    let before = term(&world, leader);
    for raft_id in (1..=3).filter(|raft_id| *raft_id != leader) {
        world.host(raft_id, |host| host.speed.slow_down(Duration::from_secs(2)));
    }
    let (started, calls) = (now(), world.network.calls());
    for _ in 0..5 {
        watch.write().await?;
    }
    let since = |method: &str| {
        let count = |calls: &BTreeMap<String, u64>| calls.get(method).copied().unwrap_or_default();
        count(&world.network.calls()) - count(&calls)
    };
    let (appends, heartbeats) = (since("Append"), since("Heartbeat") + since("Message"));
    let rounds = (now() - started).as_millis() as u64 / 100;
    // No limit of a fraction of a heartbeat on appends either: a stream that is cut and opened again never gets done.
    if appends > 1 {
        return Err(format!("streams were opened again {appends} times"));
    }
    if heartbeats < rounds || term(&world, leader) != before {
        return Err(format!(
            "{heartbeats} heartbeats in {rounds} rounds, term {before} became {}",
            term(&world, leader)
        ));
    }
    Ok(())
}

#[test]
fn a_leader_with_slow_followers_stays_and_serves() {
    run(1, slow_followers(1)).unwrap();
}

/// `Peer::stream_append`: a request does not wait for the answer to the one before.
async fn long_way(seed: u64) -> Result<(), String> {
    let mut watch = Watch::over(seed, roomy(), 3).await?;
    let world = watch.world.clone();
    watch.write().await?;
    // 60 ms there and 60 ms back would be too long for a heartbeat: half of it.
    world.network.change(&[1, 2, 3], |_, _| true, |way| way.fixed = 40_000);
    let calls = world.network.calls();
    let slowest = watch
        .during({
            let world = world.clone();
            async move {
                let mut writes = Vec::new();
                for _ in 0..60 {
                    super::runtime::sleep(Duration::from_millis(7)).await;
                    let world = world.clone();
                    writes.push(super::runtime::spawn(async move {
                        let begun = now();
                        world.write().await.map(|_| now() - begun)
                    }));
                }
                let mut slowest = Duration::ZERO;
                for write in writes {
                    slowest = slowest.max(write.await.unwrap().unwrap_or(Duration::MAX));
                }
                slowest
            }
        })
        .await?;
    let opened = world.network.calls()["Append"] - calls["Append"];
    // One way and back, the disks, and a little.
    if slowest > Duration::from_millis(105) || opened > 0 {
        return Err(format!("the slowest write took {slowest:?}; {opened} streams were opened"));
    }
    Ok(())
}

#[test]
fn writes_over_a_long_way_do_not_wait_for_each_other() {
    run(1, long_way(1)).unwrap();
}

/// `install_snapshot_timeout`: a manager whose disk is slow gets its snapshot all the same.
async fn slow_install(tune: fn(&mut Config)) -> Result<(), String> {
    let mut watch = Watch::over(1, tuned(small(), tune), 3).await?;
    let world = watch.world.clone();
    let (_, other) = follower(&world)?;
    world.crash(other, false);
    for _ in 0..200 {
        watch.write().await?;
    }
    let before = world.network.calls().get("InstallSnapshot").copied().unwrap_or_default();
    world.start(other).await;
    world.host(other, |host| host.speed.take_at_least(Duration::from_secs(8)));
    watch
        .until("the snapshot is installed", Duration::from_secs(300), |world| {
            world.running(other).is_some_and(|running| running.state.restored() > 0)
        })
        .await?;
    let calls = world.network.calls()["InstallSnapshot"] - before;
    if calls > 1 { Err(format!("the snapshot was sent {calls} times")) } else { Ok(()) }
}

#[test]
fn a_snapshot_may_take_its_time() {
    run(1, slow_install(as_set)).unwrap();
    let default =
        |config: &mut Config| config.install_snapshot_timeout = Config::default().install_snapshot_timeout;
    run(1, slow_install(default)).unwrap_err();
}

/// `max_in_snapshot_log_to_keep`: some log before the snapshot stays, and no more than that.
async fn kept_log(tune: fn(&mut Config)) -> Result<(), String> {
    let setup = small();
    let keep = setup.limits.keep_entries;
    let mut watch = Watch::over(1, tuned(setup, tune), 3).await?;
    let world = watch.world.clone();
    for _ in 0..400 {
        watch.write().await?;
    }
    watch.wait(Duration::from_secs(3)).await?;
    for (raft_id, running) in world.all_running() {
        let snapshot = running.status().snapshot.unwrap_or_default();
        let kept = (snapshot + 1).saturating_sub(running.log.stats().first_index);
        if kept < keep || kept > 2 * keep {
            return Err(format!("manager {raft_id} keeps {kept} entries before its snapshot, wanted {keep}"));
        }
    }
    Ok(())
}

#[test]
fn the_log_before_a_snapshot_is_kept_as_long_as_wanted() {
    run(1, kept_log(as_set)).unwrap();
    let default = |config: &mut Config| {
        config.max_in_snapshot_log_to_keep = Config::default().max_in_snapshot_log_to_keep
    };
    run(1, kept_log(default)).unwrap_err();
}

/// `compaction`: large entries make snapshots although there are few of them.
async fn bounded_log(seed: u64) -> Result<(), String> {
    let mut setup = small();
    setup.settings.snapshot_policy = SnapshotPolicy::LogsSinceLast(u64::MAX);
    setup.settings.max_in_snapshot_log_to_keep = 0;
    let limit = setup.limits.snapshot_bytes;
    let mut watch = Watch::over(seed, setup, 3).await?;
    let world = watch.world.clone();
    for number in 0..200 {
        let world = world.clone();
        watch
            .during(async move { world.write_padded(1_000).await })
            .await?
            .map_err(|error| error.to_string())?;
        // The first requests come while a snapshot is being written, and are lost.
        let slow = if number < 40 { Duration::from_secs(3) } else { Duration::ZERO };
        watch.world.host(1, |host| host.speed.slow_down(if number % 3 == 0 { slow } else { Duration::ZERO }));
        watch.wait(Duration::from_millis(200)).await?;
    }
    watch.wait(Duration::from_secs(15)).await?;
    for (raft_id, running) in world.all_running() {
        let grown = running.log.bytes_after(running.status().snapshot);
        if grown > 3 * limit {
            return Err(format!("the log of manager {raft_id} has grown by {grown} bytes, wanted {limit}"));
        }
    }
    Ok(())
}

#[test]
fn the_log_is_bounded_in_bytes() {
    run(1, bounded_log(1)).unwrap();
}

/// `RaftNode::transfer_leader`: leadership goes to who has most of the log.
async fn best_heir(seed: u64) -> Result<(), String> {
    let mut watch = Watch::over(seed, roomy(), 3).await?;
    let world = watch.world.clone();
    let (leader, other) = follower(&world)?;
    let heir = 6 - leader - other;
    // The one with the lower id and the one with the higher id must both be seen to be passed over.
    let behind = if seed.is_multiple_of(2) { other } else { heir };
    let wanted = if behind == other { heir } else { other };
    // It cannot take over, and nobody waits for it.
    world.network.change(&[1, 2, 3], |from, to| from == behind || to == behind, |way| way.cut = true);
    for _ in 0..20 {
        watch.write().await?;
    }
    let running = world.running(leader).ok_or("gone")?;
    let begun = now();
    let new = watch
        .during(async move {
            running.ask(|process| async move { process.node.transfer_leader(PATIENCE).await }).await
        })
        .await?
        .ok_or("the leader ended")?
        .map_err(|error| error.to_string())?;
    // Who else is told stands for election too, whatever its log.
    let told = world.network.calls()["TransferLeader"];
    if told != 1 {
        return Err(format!("{told} managers were told to take over"));
    }
    if new.raft_id != wanted || now() - begun > Duration::from_millis(100) {
        return Err(format!("{} leads after {:?}, wanted {wanted}", new.raft_id, now() - begun));
    }
    Ok(())
}

#[test]
fn leadership_goes_to_who_has_most_of_the_log() {
    run(0, best_heir(0)).unwrap();
    run(1, best_heir(1)).unwrap();
}

/// `LogStore::limited_get_log_entries`: what is sent at once is bounded in bytes, so that a message is never refused.
async fn large_entries(seed: u64) -> Result<(), String> {
    let mut watch = Watch::over(seed, roomy(), 3).await?;
    let world = watch.world.clone();
    let (_, other) = follower(&world)?;
    world.crash(other, false);
    let mut last = 0;
    for _ in 0..12 {
        let world = world.clone();
        last = watch
            .during(async move { world.write_padded(BATCH_BYTES - 100).await })
            .await?
            .unwrap_or_default();
    }
    world.start(other).await;
    watch
        .until("all of it arrives", PATIENCE, |world| {
            world.running(other).is_some_and(|running| running.state.registers().index >= last)
        })
        .await
        .map(|_| ())
}

#[test]
fn large_entries_are_sent_a_few_at_a_time() {
    run(1, large_entries(1)).unwrap();
}
