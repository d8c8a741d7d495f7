//! Clients that write down what they see while everything around them fails.
//!
//! Some clients use labels of nodes as registers, others create, change and remove services; all go through whichever
//! manager answers. Meanwhile daemons are killed, stopped and paused, links are cut, lossy and slow. Then all of it is
//! taken back, the cluster has to become whole, and what the clients saw is checked with `coracle-history`.

mod client;
mod clients;
mod fault;
mod inflict;
mod random;
mod registers;
mod rest;
mod services;

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use coracle_history::{Tally, Violation, linearize};

pub use fault::Fault;
pub use random::Random;

use crate::lab::Lab;
use clients::Clients;
use inflict::Inflictor;

/// Pause between two looks at what is due.
const TICK: Duration = Duration::from_millis(20);
/// Longest pause between the beginnings of two faults.
const GAP: u64 = 1_500;
/// Steps that the search for an order may take, per key. (It is used beside the check by indices, as a second opinion.)
const STEPS: u64 = 5_000_000;
/// Operations of one key up to which an order is searched: each step remembers a set of them.
const SEARCHED: usize = 4_000;

/// How a run is made.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Decides which faults come; their effects also depend on the machine's timing.
    pub seed: u64,
    /// How long faults are inflicted.
    pub length: Duration,
}

impl Settings {
    /// From `CORACLE_NEMESIS_SEED` and `CORACLE_NEMESIS_SECONDS`; a seed of the clock, and `default` without them.
    ///
    /// # Errors
    /// When one is not a number.
    pub fn from_environment(default: Duration) -> Result<Self> {
        let number = |name: &str| -> Result<Option<u64>> {
            let Ok(text) = std::env::var(name) else { return Ok(None) };
            Ok(Some(text.parse().with_context(|| format!("{name}: invalid value {text:?}"))?))
        };
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        let seed = number("CORACLE_NEMESIS_SEED")?.unwrap_or(u64::from(since.subsec_nanos()));
        let length = number("CORACLE_NEMESIS_SECONDS")?.map_or(default, Duration::from_secs);
        Ok(Self { seed, length })
    }
}

/// What happened in a run.
#[derive(Debug, Default)]
pub struct Report {
    /// What the clients did.
    pub tally: Tally,
    /// How often each kind of fault was inflicted.
    pub faults: BTreeMap<&'static str, u32>,
    /// Longest time without an acknowledged write, faults included.
    pub longest_gap: Duration,
    /// How long everything needed to become whole when all faults were taken back.
    pub whole_after: Duration,
    /// How often a worker that no fault touched was taken for lost.
    pub untouched_lost: u32,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { operations, writes, reads, refused, unknown } = self.tally;
        write!(f, "{operations} operations: {writes} writes done, {reads} reads, {refused} refused, ")?;
        write!(f, "{unknown} unknown; longest time without a write {:.1?}; ", self.longest_gap)?;
        write!(
            f,
            "whole after {:.1?}; untouched worker lost {} times; faults:",
            self.whole_after, self.untouched_lost
        )?;
        self.faults.iter().try_for_each(|(kind, count)| write!(f, " {kind} {count}"))
    }
}

/// Inflicts faults on a formed cluster of at least two workers while clients work, and checks everything after.
///
/// The first worker's host is never touched (its daemon may be killed with all others), and so must its containers be.
///
/// # Errors
/// What is broken: a promise to a client, convergence, a slot that is filled twice, a container that was disturbed.
pub fn run(lab: &mut Lab, settings: Settings) -> Result<Report> {
    let mut random = Random::new(settings.seed);
    let steady = rest::start_steady(lab)?;
    let clients = Clients::start(lab, &mut random)?;
    let faults = inflict(lab, &mut random, settings.length);
    let healed = Instant::now();
    let whole = faults.as_ref().map_or(Ok(()), |_| rest::wait_whole(lab));
    let whole_after = healed.elapsed();
    // Also when something failed: no thread is left behind.
    let (mut history, longest_gap) = clients.stop()?;
    let (faults, ()) = (faults?, whole?);
    clients::observe(lab, &mut history)?;
    let untouched_lost = rest::check(lab, &steady)?;
    let mut violations = history.check();
    if history.operations().len() <= SEARCHED {
        violations.extend(linearize::check(&history, STEPS));
    }
    let report = Report { tally: history.tally(), faults, longest_gap, whole_after, untouched_lost };
    if !violations.is_empty() {
        std::fs::write(lab.folder().join("history.txt"), clients::as_text(&history))
            .context("keep the history")?;
        bail!("seed {}: {report}\n{}", settings.seed, list(&violations));
    }
    Ok(report)
}

fn inflict(lab: &mut Lab, random: &mut Random, length: Duration) -> Result<BTreeMap<&'static str, u32>> {
    let mut inflictor = Inflictor::new(lab);
    let (start, mut next) = (Instant::now(), Instant::now());
    let result = loop {
        if start.elapsed() >= length {
            break Ok(());
        }
        let mut step = || -> Result<()> {
            inflictor.end_due(lab)?;
            inflictor.check_daemons(lab)?;
            if Instant::now() >= next {
                inflictor.begin(lab, random)?;
                next = Instant::now() + Duration::from_millis(200 + random.below(GAP));
            }
            Ok(())
        };
        if let Err(error) = step() {
            break Err(error);
        }
        std::thread::sleep(TICK);
    };
    let ended = inflictor.end_all(lab);
    result.and(ended).map(|()| inflictor.counts())
}

fn list(violations: &[Violation]) -> String {
    let shown: Vec<String> = violations.iter().take(10).map(ToString::to_string).collect();
    format!("{} promises are broken:\n{}", violations.len(), shown.join("\n"))
}
