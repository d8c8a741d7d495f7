//! `cargo xtask verify`: what a change must pass before it is shown to anybody. It never writes to the sources.

use anyhow::Result;

use crate::{arrows, parity, step, tidy};

/// Runs all checks and the tests that need no root.
pub(crate) fn run() -> Result<()> {
    checks()?;
    step::named("unit tests", || {
        step::run(&mut step::cargo(["test", "--workspace", "--lib", "--bins", "--quiet"]))
    })?;
    println!("verify: all is well");
    Ok(())
}

/// Runs all checks, cheapest first.
pub(crate) fn checks() -> Result<()> {
    step::named("format", || step::run(&mut step::cargo(["fmt", "--all", "--check"])))?;
    step::named("lints opted into, modules described", tidy::check)?;
    step::named("arrows between crates", arrows::check)?;
    step::named("tests that are named beside Swarm's", parity::check)?;
    step::named("clippy", || {
        let arguments = ["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"];
        step::run(&mut step::cargo(arguments))
    })?;
    step::named("documentation", || {
        let mut command =
            step::cargo(["doc", "--workspace", "--no-deps", "--document-private-items", "--quiet"]);
        // The documents are for those who work on the code: links to private items are wanted.
        step::run(command.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links"))
    })
}
