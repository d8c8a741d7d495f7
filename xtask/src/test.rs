//! `cargo xtask test`: everything that CI runs.

use anyhow::{Result, bail};

use crate::tally::Tally;
use crate::{packages, privilege, step, verify};

/// Runs everything, or only some tests of whole clusters.
pub(crate) fn run(only: Option<&str>) -> Result<()> {
    packages::install_missing(packages::ALL)?;
    packages::check_busybox()?;
    let mut tally = Tally::default();
    if only.is_none() {
        verify::checks()?;
        step::named("tests of every crate", || {
            let arguments =
                ["test", "--workspace", "--exclude", "coracle-integration", "--no-fail-fast", "--"];
            let mut command = step::cargo(arguments.into_iter().chain(["--show-output"]));
            privilege::run_tests_as_root(&mut command);
            tally.run("tests of every crate", &mut command)
        })?;
    }
    build_lab()?;
    step::named("tests of whole clusters", || {
        let arguments = ["test", "--package", "coracle-integration", "--no-fail-fast", "--"];
        // One cluster at a time: they share the machine, and deadlines are for one.
        let mut command =
            step::cargo(arguments.into_iter().chain(only).chain(["--test-threads=1", "--show-output"]));
        privilege::run_tests_as_root(&mut command);
        tally.run("tests of whole clusters", &mut command)
    })?;
    if only.is_none() {
        let demo = step::named("demo", || lab_program("coracle-demo", &[]));
        tally.broken.extend(demo.err().map(|error| format!("{error:#}")));
    }
    conclude(&tally)
}

/// Prints what failed tests said once more, where a long log is looked at first, then the closing line; and decides.
fn conclude(tally: &Tally) -> Result<()> {
    if !tally.reasons.is_empty() {
        println!("what the failed tests said:\n{}", tally.reasons.join("\n"));
    }
    for reason in &tally.skipped {
        println!("skipped: {reason}");
    }
    println!("{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skipped.len());
    if tally.failed > 0 || !tally.broken.is_empty() {
        bail!("{}", tally.broken.join("; "));
    }
    if !tally.skipped.is_empty() && std::env::var("CI").is_ok_and(|value| value == "true") {
        bail!("tests were skipped, which CI does not accept");
    }
    Ok(())
}

/// Builds what labs run: the product and the responder, with the profile that tests are built with, so that nothing is
/// compiled twice.
pub(crate) fn build_lab() -> Result<()> {
    step::named("build the product and the example", || {
        let arguments = ["build", "--package", "coracle", "--package", "coracle-responder"];
        step::run(&mut step::cargo(arguments))
    })
}

/// Builds and runs a program of the integration crate as root, with the same profile as what it runs.
pub(crate) fn lab_program(name: &str, arguments: &[String]) -> Result<()> {
    step::run(&mut step::cargo(["build", "--package", "coracle-integration", "--bin", name]))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| step::root().join("target"), Into::into);
    let folder = target.join(format!("{}-unknown-linux-gnu", std::env::consts::ARCH)).join("debug");
    let program = folder.join(name);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    step::run(&mut privilege::command(&program.to_string_lossy(), &arguments))
}
