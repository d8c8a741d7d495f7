//! The project's own commands: `cargo xtask verify`, `test`, `demo`, `bench`.
//!
//! There is no other task runner: what CI does is `cargo xtask test`, and nothing else.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people at a terminal")]

mod arrows;
mod bench;
mod packages;
mod parity;
mod privilege;
#[cfg(test)]
mod refusals;
mod step;
mod tally;
mod test;
mod tidy;
mod verify;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Builds, checks and shows Coracle.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The fast check, without root: format, clippy, documentation, arrows between crates, unit tests.
    Verify,
    /// Everything that CI runs: verify, all tests (as root), whole clusters in namespaces, the demo.
    Test {
        /// Only tests of whole clusters whose name contains this.
        #[arg(long, value_name = "NAME")]
        only: Option<String>,
    },
    /// A cluster of five hosts on this machine: shows services converge, and failures heal.
    Demo {
        /// Leaves the cluster up and says what to try.
        #[arg(long, conflicts_with = "stop")]
        keep: bool,
        /// Ends a cluster that was left up.
        #[arg(long)]
        stop: bool,
    },
    /// Measures the product, built with the release profile, and prints a table beside the targets and, with --peers,
    /// beside what peers do in the same run.
    Bench(bench::Arguments),
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Verify => verify::run(),
        Command::Test { only } => test::run(only.as_deref()),
        Command::Demo { keep, stop } => {
            let flags = [(keep, "--keep"), (stop, "--stop")];
            let flags: Vec<String> =
                flags.iter().filter(|(set, _)| *set).map(|(_, flag)| (*flag).to_owned()).collect();
            packages::install_missing(packages::LAB)?;
            test::build_lab()?;
            test::lab_program("coracle-demo", &flags)
        }
        Command::Bench(arguments) => bench::run(&arguments),
    }
}
