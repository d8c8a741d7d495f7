//! Everything at once, by seed.

use std::time::Duration;

use super::cluster::small;
use super::nemesis::Nemesis;
use super::seeds::{for_each, run};
use super::world::Watch;

/// How long harm is done, in virtual time: mostly short, so that there can be many seeds.
fn harm(seed: u64) -> Duration {
    Duration::from_millis(if seed % 10 == 9 { 8_000 } else { 1_000 + seed * 7_919 % 2_000 })
}

/// One run; returns the number that stands for all that happened.
#[allow(clippy::print_stdout, reason = "for who replays one seed")]
async fn chaos(seed: u64) -> Result<u64, String> {
    let size = if seed.is_multiple_of(3) { 5 } else { 3 };
    let mut watch = Watch::over(seed, small(), size).await?;
    let world = watch.world.clone();
    world.serve(3);
    let mut nemesis = Nemesis::new(world.clone());
    let result = match nemesis.run(&mut watch, harm(seed)).await {
        Ok(()) => watch.recover().await,
        failed => failed,
    };
    if std::env::var_os("CORACLE_RAFT_SEED").is_some() {
        println!("{}{:?} {:?}", world.story(), nemesis.counts, world.network.calls());
    }
    result.map(|()| world.trace()).map_err(|what| format!("{}{what}", world.story()))
}

#[test]
fn chaos_breaks_nothing() {
    for_each("chaos_breaks_nothing", 200, async |seed| chaos(seed).await.map(|_| ()));
}

#[test]
fn the_same_seed_does_the_same() {
    for seed in 1000..1004 {
        let first = run(seed, chaos(seed)).unwrap();
        assert_eq!(run(seed, chaos(seed)).unwrap(), first, "seed {seed}");
    }
}
