//! `cargo xtask bench`: measures a cluster of five pretended hosts.
#![expect(clippy::print_stderr, reason = "a program for people at a terminal")]

use std::process::ExitCode;

use clap::Parser;
use coracle_integration::bench::{self, Options};

fn main() -> ExitCode {
    match bench::run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nthe measurements failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
