//! `coracle volume …`

mod archive;
mod backup;
mod create;
mod inspect;
mod ls;
mod prune;
mod restore;
mod rm;

use std::collections::BTreeSet;

use clap::Subcommand;
use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1;

use crate::context::{ConnectionArgs, Context};
use crate::error::{self, Reported, say};

/// Commands on volumes.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a volume on this or other nodes
    #[command(after_help = "Examples:
  coracle volume create data
  coracle volume create --node worker-1 --node worker-2 --label team=web cache")]
    Create(create::Args),
    /// List the volumes of all nodes
    #[command(
        visible_alias = "list",
        after_help = "Examples:
  coracle volume ls --filter dangling=true
  coracle volume ls --filter node=worker-1 --format '{{.Name}}'"
    )]
    Ls(ls::Args),
    /// Show everything about volumes: where they are, how large, and who uses them
    #[command(after_help = "Example:\n  coracle volume inspect --node worker-1 data")]
    Inspect(inspect::Args),
    /// Remove volumes that no task uses
    #[command(
        visible_alias = "remove",
        after_help = "Examples:
  coracle volume rm data
  coracle volume rm --node worker-1 data
  coracle volume rm --all-nodes cache"
    )]
    Rm(rm::Args),
    /// Remove all volumes that no task uses: anonymous ones, or all
    #[command(after_help = "Examples:
  coracle volume prune
  coracle volume prune --all --node worker-1 --filter label=team=web --force")]
    Prune(prune::Args),
    /// Save what is in a volume as a tar archive
    #[command(after_help = "Examples:
  coracle volume backup data --node worker-1 -o data.tar
  coracle volume backup data --node worker-1 | coracle volume restore data --node worker-2")]
    Backup(backup::Args),
    /// Make a volume of a tar archive: all of it or nothing
    #[command(after_help = "Examples:
  coracle volume restore data --node worker-2 -i data.tar
  coracle volume restore data --node worker-2 -i data.tar --replace")]
    Restore(restore::Args),
}

/// Runs one of them.
///
/// # Errors
/// What went wrong.
pub(crate) async fn run(command: Command, connection: &ConnectionArgs) -> anyhow::Result<()> {
    let context = Context::connect(connection).await?;
    match command {
        Command::Create(args) => create::run(&context, args).await,
        Command::Ls(args) => ls::run(&context, args).await,
        Command::Inspect(args) => inspect::run(&context, args).await,
        Command::Rm(args) => rm::run(&context, args).await,
        Command::Prune(args) => prune::run(&context, args).await,
        Command::Backup(args) => backup::run(&context, args).await,
        Command::Restore(args) => restore::run(&context, args).await,
    }
}

/// Says which nodes are not heard, so that nobody takes silence for absence. Each once, however often it is given.
fn tell_silent(silent: &[v1::SilentNode]) {
    let lines: BTreeSet<String> = silent
        .iter()
        .map(|node| {
            format!("warning: volumes of node {} are not known: {}", node.node_hostname, node.message)
        })
        .collect();
    lines.iter().for_each(|line| say(line));
}

/// Tells what could not be done; fails with the first one's exit status.
fn tell_failures(failures: Vec<v1::VolumeFailure>) -> anyhow::Result<()> {
    let mut first = None;
    for failure in failures {
        let error = anyhow::Error::from(ApiError {
            reason: Reason::from_word(&failure.reason).unwrap_or(Reason::Internal),
            message: failure.message,
            hint: Some(failure.hint).filter(|hint| !hint.is_empty()),
        });
        error::report(&error);
        first.get_or_insert(error::exit_code(&error));
    }
    first.map_or(Ok(()), |code| Err(Reported(code).into()))
}

fn count(number: usize, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}
