//! Runs a command again and again from a place where it can be timed: on the host where it runs, so that entering the
//! host is not part of the time.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

/// The command to time.
#[derive(Debug, clap::Args)]
pub struct Timed {
    /// How often.
    #[arg(long)]
    count: usize,
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Runs that are not counted: the first ones bring files into memory.
const WARM_UP: usize = 2;

impl Timed {
    /// Gives the wall seconds of every run.
    ///
    /// # Errors
    /// When the command cannot be started or fails.
    pub fn run(&self) -> Result<Vec<f64>> {
        let (program, arguments) = self.command.split_first().context("no command")?;
        let mut times = Vec::new();
        for _ in 0..self.count + WARM_UP {
            let mut command = Command::new(program);
            command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
            let start = Instant::now();
            let status = command.status().with_context(|| format!("start {program}"))?;
            times.push(start.elapsed().as_secs_f64());
            if !status.success() {
                bail!("{program}: {status}");
            }
        }
        Ok(times.split_off(WARM_UP))
    }
}
