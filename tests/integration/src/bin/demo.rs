//! `cargo xtask demo`: shows what Coracle does, on five pretended hosts.
#![expect(clippy::print_stderr, reason = "a program for people at a terminal")]

use std::process::ExitCode;

use clap::Parser;
use coracle_integration::demo;

/// A cluster of five hosts on this machine.
#[derive(Debug, Parser)]
struct Arguments {
    /// Leaves the cluster up and says what to try.
    #[arg(long, conflicts_with = "stop")]
    keep: bool,
    /// Ends a cluster that was left up.
    #[arg(long)]
    stop: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = if arguments.stop { demo::stop() } else { demo::run(arguments.keep) };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nthe demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
