//! How much memory twenty used histograms take: about as many as one Raft node has.

#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

use base2histogram::Histogram;

fn main() -> std::io::Result<()> {
    let before = resident()?;
    let histograms: Vec<Histogram> = (0..20).map(used).collect();
    println!("{} histograms: {} KiB resident", histograms.len(), resident()?.saturating_sub(before));
    Ok(())
}

/// One that saw values of all sizes, which is the most that it can take.
fn used(seed: u64) -> Histogram {
    let mut histogram = Histogram::new();
    (0..64).for_each(|bit| histogram.record_n(1 << bit, seed + 1));
    histogram
}

/// Resident memory of this process in KiB, from `/proc/self/status`.
fn resident() -> std::io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| std::io::Error::other("no VmRSS in /proc/self/status"))
}
