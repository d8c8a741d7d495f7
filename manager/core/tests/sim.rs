//! A seeded simulation: managers whose leaders change, agents that crash, are cut off, come back late and
//! report late, operators who change their minds. Invariants are checked after every step; when the faults
//! stop, everything must converge.
//!
//! `CORACLE_SIM_SEED=n` runs one seed, `CORACLE_SIM_SEEDS=n` so many from zero on.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

#[path = "sim/agent.rs"]
mod agent;
#[path = "sim/cluster.rs"]
mod cluster;
#[path = "sim/invariants.rs"]
mod invariants;
#[path = "sim/operator.rs"]
mod operator;
#[path = "sim/random.rs"]
mod random;
mod world;

use cluster::Cluster;

const SEEDS: u64 = 200;
const STEPS_WITH_FAULTS: u32 = 100;

fn run(seed: u64) {
    let mut cluster = Cluster::new(seed);
    for _ in 0..STEPS_WITH_FAULTS {
        cluster.step();
    }
    cluster.converge();
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

#[test]
fn invariants_hold_and_clusters_converge() {
    let seeds = match number("CORACLE_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("CORACLE_SIM_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        if let Err(failure) = std::panic::catch_unwind(|| run(seed)) {
            eprintln!("CORACLE_SIM_SEED={seed} reproduces this");
            std::panic::resume_unwind(failure);
        }
    }
}
