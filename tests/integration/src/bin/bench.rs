//! `cargo xtask bench`: measures a cluster of five pretended hosts, and peers beside it.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people at a terminal")]

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use coracle_integration::bench::timing::Timed;
use coracle_integration::bench::{self, Options};

#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Times a command, one figure a line: what the measurement starts on a host.
    #[command(hide = true)]
    Time(Timed),
}

fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.command {
        Some(Command::Time(timed)) => {
            timed.run()?.iter().for_each(|seconds| println!("{seconds}"));
            Ok(())
        }
        None => bench::run(&arguments.options),
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nthe measurements failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
