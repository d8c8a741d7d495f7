//! Joining, leaving and coming back.

use std::time::Duration;

use super::cluster::{address, roomy, small};
use super::host::Setup;
use super::seeds::{for_each, run};
use super::world::{PATIENCE, Watch};
use crate::raft::RaftStartError;

/// Asks the leader to do something with managers.
macro_rules! ask_leader {
    ($watch:expr, $node:ident => $request:expr) => {{
        let world = $watch.world.clone();
        let leader = world.leader().and_then(|leader| world.running(leader)).ok_or("nobody leads")?;
        $watch
            .during(async move {
                leader
                    .ask(|process| async move {
                        let $node = &process.node;
                        $request.await
                    })
                    .await
            })
            .await?
            .ok_or("the leader ended")?
            .map_err(|error| error.to_string())
    }};
}

/// A manager that is removed and added again in the same term, with what it had.
async fn removed_and_back(seed: u64) -> Result<(), String> {
    let mut watch = Watch::over(seed, roomy(), 3).await?;
    let world = watch.world.clone();
    for _ in 0..5 {
        watch.write().await?;
    }
    let leader = world.leader().ok_or("nobody leads")?;
    let term = world.running(leader).ok_or("gone")?.status().term;
    let other = (1..=3).find(|raft_id| *raft_id != leader).ok_or("alone")?;
    // It does not hear of its removal.
    let deaf = seed.is_multiple_of(2);
    if deaf {
        world.network.change(&[1, 2, 3], |_, to| to == other, |way| way.cut = true);
    }
    ask_leader!(watch, node => node.remove(other, PATIENCE))?;
    for _ in 0..5 {
        watch.write().await?;
    }
    world.network.heal();
    ask_leader!(watch, node => node.add_learner(other, &address(other), PATIENCE))?;
    ask_leader!(watch, node => node.promote(other, PATIENCE))?;
    let now = world.running(leader).ok_or("gone")?.status();
    if !deaf && now.term != term {
        return Err(format!("the term went from {term} to {}", now.term));
    }
    // The two others are cut off: what it says to have must be there.
    watch.write().await?;
    let third = 6 - leader - other;
    world.crash(third, true);
    for _ in 0..5 {
        watch.write().await?;
    }
    world.start(third).await;
    watch.recover().await
}

#[test]
fn a_manager_may_come_back_in_the_same_term() {
    for_each("a_manager_may_come_back", 6, removed_and_back);
}

/// A manager that lost its log is refused; so is one whose log is that of another.
async fn wiped(seed: u64) -> Result<(), String> {
    let mut watch = Watch::over(seed, roomy(), 3).await?;
    let world = watch.world.clone();
    watch.write().await?;
    let leader = world.leader().ok_or("nobody leads")?;
    let other = (1..=3).find(|raft_id| *raft_id != leader).ok_or("alone")?;
    world.crash(other, false);
    world.host(other, |host| {
        let log: Vec<_> = host.disk.files().into_iter().filter(|name| name.starts_with("log/")).collect();
        let directory = coracle_disk::Storage::subdirectory(&host.disk, "log").unwrap();
        log.iter().for_each(|name| directory.remove(&name["log/".len()..]).unwrap());
    });
    match world.try_start(other).await {
        Err(RaftStartError::LogLost { raft_id, .. }) if raft_id == other => Ok(()),
        answer => Err(format!("a manager without its log started: {answer:?}")),
    }
}

#[test]
fn a_manager_without_its_log_is_refused() {
    run(1, wiped(1)).unwrap();
}

/// A manager whose disk is new and whose id is old has forgotten what it confirmed.
async fn replaced(seed: u64) -> Result<(), String> {
    let mut watch = Watch::over(seed, roomy(), 3).await?;
    let world = watch.world.clone();
    for _ in 0..5 {
        watch.write().await?;
    }
    let leader = world.leader().ok_or("nobody leads")?;
    let other = (1..=3).find(|raft_id| *raft_id != leader).ok_or("alone")?;
    world.crash(other, false);
    world.host(other, |host| host.wipe());
    world.start(other).await;
    super::runtime::sleep(Duration::from_secs(2)).await;
    // openraft stops here in debug builds; what matters is that the log is not simply written anew.
    let noticed = world.running(leader).is_some_and(|running| running.life.panicked());
    if noticed { Ok(()) } else { Err("nobody noticed".to_owned()) }
}

#[test]
#[cfg(debug_assertions)]
fn a_manager_that_forgot_everything_is_noticed() {
    run(1, replaced(1)).unwrap();
}

/// Behind a log that is purged up to its end, in a cluster where nothing happens.
async fn behind(seed: u64) -> Result<(), String> {
    let mut limits = small();
    limits.limits.keep_entries = 0;
    limits.settings.max_in_snapshot_log_to_keep = 0;
    let mut watch = Watch::over(seed, limits, 3).await?;
    let world = watch.world.clone();
    let leader = world.leader().ok_or("nobody leads")?;
    let other = (1..=3).find(|raft_id| *raft_id != leader).ok_or("alone")?;
    world.crash(other, seed.is_multiple_of(2));
    let mut last = 0;
    for _ in 0..30 {
        last = watch.write().await?;
    }
    let leader = world.leader().ok_or("nobody leads")?;
    // Everything is in the snapshot, and the log is empty.
    for raft_id in (1..=3).filter(|raft_id| *raft_id != other) {
        let running = world.running(raft_id).ok_or("gone")?;
        watch
            .during(async move {
                running.ask(|process| async move { process.node.trigger_snapshot().await }).await
            })
            .await?;
    }
    watch
        .until("the log is purged", Duration::from_secs(20), |world| {
            world.running(leader).is_some_and(|running| {
                let stats = running.log.stats();
                stats.first_index > last && stats.first_index == stats.next_index
            })
        })
        .await?;
    world.start(other).await;
    // Nobody writes anything.
    watch
        .until("the manager that was away has everything", Duration::from_secs(20), |world| {
            world.running(other).is_some_and(|running| running.state.registers().index >= last)
        })
        .await?;
    if world.running(other).is_some_and(|running| running.state.restored() == 0) {
        return Err("it needed no snapshot: the log was not purged".to_owned());
    }
    watch.recover().await
}

#[test]
fn a_manager_behind_an_empty_log_catches_up_when_nothing_happens() {
    for_each("a_manager_behind", 6, behind);
}

/// A change of membership that is cut in the middle, and a snapshot for who missed it.
async fn cut_change(seed: u64) -> Result<(), String> {
    let mut watch = Watch::over(seed, small(), 3).await?;
    let world = watch.world.clone();
    let leader = world.leader().ok_or("nobody leads")?;
    world.start(4).await;
    ask_leader!(watch, node => node.add_learner(4, &address(4), PATIENCE))?;
    // The leader begins a change that nobody hears of; the others go on without it.
    world.network.change(&[1, 2, 3, 4], |from, to| from == leader || to == leader, |way| way.cut = true);
    let running = world.running(leader).ok_or("gone")?;
    drop(running.life.clone().spawn(async move { running.node.promote(4, Duration::from_secs(1)).await }));
    watch.until("another leads", PATIENCE, |world| world.leader().is_some_and(|now| now != leader)).await?;
    for _ in 0..150 {
        watch.write().await?;
    }
    world.network.heal();
    watch
        .until("all agree on who takes part", PATIENCE, |world| {
            world.members().is_ok_and(|ids| ids.len() == 4)
        })
        .await?;
    let voters = world.running(leader).ok_or("gone")?.status().members.voters.len();
    if voters != 3 {
        return Err(format!("the change that nobody heard of made {voters} voters"));
    }
    watch.recover().await
}

#[test]
fn a_change_that_nobody_heard_of_is_forgotten() {
    for_each("a_change_that_nobody", 4, cut_change);
}

/// One member is not there at all: the leader serves and changes the membership all the same.
async fn silent_member(seed: u64) -> Result<(), String> {
    let setup: Setup = roomy();
    let mut watch = Watch::over(seed, setup, 3).await?;
    let world = watch.world.clone();
    let leader = world.leader().ok_or("nobody leads")?;
    let other = (1..=3).find(|raft_id| *raft_id != leader).ok_or("alone")?;
    world.network.change(&[1, 2, 3, 4], |from, to| from == other || to == other, |way| way.cut = true);
    world.start(4).await;
    watch.write().await?;
    ask_leader!(watch, node => node.add_learner(4, &address(4), PATIENCE))?;
    ask_leader!(watch, node => node.promote(4, PATIENCE))?;
    ask_leader!(watch, node => node.remove(other, PATIENCE))?;
    world.crash(other, true);
    watch.recover().await
}

#[test]
fn a_silent_member_stops_no_change() {
    for_each("a_silent_member", 4, silent_member);
}
