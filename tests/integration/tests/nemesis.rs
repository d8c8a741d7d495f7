//! Whatever fails, no promise to a client is broken, and everything becomes whole again.

use std::time::Duration;

use coracle_integration::harness;
use coracle_integration::nemesis::{self, Settings};

/// How long faults are inflicted where nobody asks for more.
const SHORT: Duration = Duration::from_secs(35);
/// From this length on there are five managers.
const LONG: Duration = Duration::from_secs(300);

#[test]
#[expect(clippy::print_stdout, reason = "the seed, to do it again, and the figures")]
fn promises_hold_while_everything_fails() {
    let settings = Settings::from_environment(SHORT).expect("settings");
    let managers = if settings.length >= LONG { 5 } else { 3 };
    println!("CORACLE_NEMESIS_SEED={} CORACLE_NEMESIS_SECONDS={}", settings.seed, settings.length.as_secs());
    harness::test("nemesis", managers, 2, |lab| {
        let report = nemesis::run(lab, settings)?;
        println!("{report}");
        // Otherwise nothing was tried.
        anyhow::ensure!(report.tally.writes > 100, "clients got little done: {report}");
        anyhow::ensure!(report.faults.values().sum::<u32>() > 5, "few faults: {report}");
        Ok(())
    });
}
