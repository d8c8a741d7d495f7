//! A cluster with nothing to do does nearly nothing.

use std::time::Duration;

use super::cluster::roomy;
use super::runtime::deadlines;
use super::seeds::run;
use super::world::{PATIENCE, Watch};
use crate::raft::Timing;

/// Time without any work.
const IDLE: u32 = 10;

/// Deadlines that three managers slept until, in a while without work.
async fn idle() -> Result<u64, String> {
    let mut watch = Watch::over(1, roomy(), 3).await?;
    let world = watch.world.clone();
    watch.until("all follow one leader", PATIENCE, |world| world.members().is_ok()).await?;
    watch.write().await?;
    watch.wait(Duration::from_secs(2)).await?;
    let (leader, before) = (world.leader(), deadlines());
    watch.wait(Duration::from_secs(1) * IDLE).await?;
    let slept = deadlines() - before;
    if world.leader() != leader {
        return Err("another leads".to_owned());
    }
    Ok(slept)
}

#[test]
fn only_a_leader_looks_at_clocks_and_once_per_heartbeat() {
    let slept = run(1, idle()).unwrap();
    let beats = u64::from(IDLE) * 1000 / Timing::default().heartbeat.as_millis() as u64;
    // Left alone, openraft looks five times per heartbeat, on all three.
    assert!((beats * 3 / 4..=beats).contains(&slept), "{slept} looks for {beats} heartbeats");
}
