//! Leaders are killed again and again: the two that are left always elect one of them in time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::cluster::roomy;
use super::life::lock;
use super::runtime::now;
use super::seeds::{figure, for_each};
use super::world::Watch;
use crate::raft::Timing;

/// Kills in one cluster.
const KILLS: u64 = 10;

/// The longest time that an election may take.
fn limit() -> Duration {
    let longest = Timing::default().election_max;
    // Three rounds of the longest time-out, after the lease of the leader that was.
    3 * longest + longest
}

/// Kills leaders; returns how long it took each time until another led.
async fn kills(seed: u64) -> Result<Vec<Duration>, String> {
    let mut watch = Watch::over(seed, roomy(), 3).await?;
    let world = watch.world.clone();
    let mut elections = Vec::new();
    for _ in 0..KILLS {
        watch.until("all follow one leader", 10 * limit(), |world| world.members().is_ok()).await?;
        let Some(leader) = world.leader() else { continue };
        let (power, pause) = (world.below(2) == 0, world.below(300));
        watch.wait(Duration::from_millis(pause)).await?;
        world.crash(leader, power);
        let killed = now();
        watch.until("another leads", 10 * limit(), |world| world.leader().is_some()).await?;
        let election = now() - killed;
        if election > limit() {
            return Err(format!("{}the election took {election:?}", world.story()));
        }
        elections.push(election);
        watch.write().await?;
        world.start(leader).await;
    }
    Ok(elections)
}

#[test]
#[allow(clippy::print_stdout, reason = "the figures are the result")]
fn whoever_is_left_elects_a_leader_in_time() {
    let (longest, all) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    for_each("whoever_is_left", figure("CORACLE_LEADER_KILLS", 200).div_ceil(KILLS), async |seed| {
        let elections = kills(seed).await?;
        for election in elections {
            longest.fetch_max(election.as_millis() as u64, Ordering::Relaxed);
            lock(&all).push(election);
        }
        Ok(())
    });
    let mut all = lock(&all).clone();
    all.sort_unstable();
    let at = |percent: usize| all.get(all.len() * percent / 100).copied().unwrap_or_default();
    println!(
        "{} elections: 1 % {:?}, half {:?}, 90 % {:?}, 99 % {:?}, longest {} ms",
        all.len(),
        at(1),
        at(50),
        at(90),
        at(99),
        longest.into_inner()
    );
}
