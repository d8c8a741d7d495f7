//! `coracle completion`.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::app::Cli;
use crate::output;

/// Flags of `completion`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  coracle completion bash > /etc/bash_completion.d/coracle")]
pub(crate) struct Args {
    /// bash, elvish, fish, powershell or zsh
    shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// When the output cannot be written.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "coracle", &mut script);
    Ok(output::write_bytes(&script)?)
}
