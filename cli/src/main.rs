//! `coracle`: the command line and the daemon, in one program.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod app;
mod cmd;
mod context;
mod daemon;
mod error;
mod exit_code;
mod opt;
mod output;
mod progress;

use std::error::Error as _;

use crate::app::Command;
use crate::exit_code::ExitCode;

fn main() -> std::process::ExitCode {
    let cli = match app::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(refusal) => return refuse(&refusal).into(),
    };
    let outcome = match cli.command {
        Command::Daemon(args) => daemon::run(args),
        command => on_runtime(app::run(command, cli.connection)),
    };
    match outcome {
        Ok(()) => ExitCode::Success,
        Err(error) if error::is_broken_pipe(&error) => ExitCode::Success,
        Err(error) => {
            error::report(&error);
            error::exit_code(&error)
        }
    }
    .into()
}

/// Commands wait for one answer at a time: one thread is enough.
fn on_runtime(command: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(command);
    // A read of the standard input that nobody needs any more must not keep the process.
    runtime.shutdown_background();
    outcome
}

/// Tells why the command line is not accepted. A value that its own grammar refuses is told in that grammar's words,
/// which name flag and value already.
fn refuse(refusal: &clap::Error) -> ExitCode {
    if !refusal.use_stderr() {
        return if refusal.print().is_ok() { ExitCode::Success } else { ExitCode::Failure };
    }
    match refusal.source() {
        Some(source) if refusal.kind() == clap::error::ErrorKind::ValueValidation => {
            error::say(&format!("error: {source}"));
        }
        _ => drop(refusal.print()),
    }
    if let Some(hint) = app::elsewhere::instead_of(refusal) {
        error::say(&format!("hint: {hint}"));
    }
    ExitCode::Usage
}
