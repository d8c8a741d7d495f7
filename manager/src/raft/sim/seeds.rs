//! Running a scenario for many seeds.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use openraft::AsyncRuntime as _;

use super::runtime::Clockwork;

/// Seeds that run at the same time.
const THREADS: usize = 2;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// A figure that a variable may change.
pub(super) fn figure(variable: &str, default: u64) -> u64 {
    number(variable).unwrap_or(default)
}

/// Runs one seed.
pub(super) fn run<T, F: Future<Output = T>>(seed: u64, scenario: F) -> T {
    Clockwork::with_seed(seed).block_on(scenario)
}

/// Runs a scenario for many seeds, `default` if nothing else is asked for; panics with the first seed that fails.
pub(super) fn for_each<F: Future<Output = Result<(), String>>>(
    name: &str,
    default: u64,
    scenario: impl Fn(u64) -> F + Sync,
) {
    let seeds: Vec<u64> = match number("CORACLE_RAFT_SEED") {
        Some(seed) => vec![seed],
        None => (0..figure("CORACLE_RAFT_SEEDS", default)).collect(),
    };
    let next = AtomicUsize::new(0);
    std::thread::scope(|threads| {
        for _ in 0..THREADS {
            threads.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // A panic is caught, so that its seed is told.
                    let result = catch_unwind(AssertUnwindSafe(|| run(*seed, scenario(*seed))));
                    if let Err(what) = result.unwrap_or_else(|_| Err("panicked, see above".to_owned())) {
                        panic!(
                            "{name}: seed {seed}: {what}\n\
                             to see it again: CORACLE_RAFT_SEED={seed} cargo test -p coracle-manager {name}"
                        );
                    }
                }
            });
        }
    });
}
