//! `coracle secret …`

use clap::Subcommand;
use coracle_model::secret::FileKind;

use super::file::{self, CreateArgs, InspectArgs, ListArgs, RemoveArgs, UpdateArgs};
use crate::context::{ConnectionArgs, Context};

/// Commands on secrets.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a secret from a file or the standard input
    #[command(after_help = "Examples:
  coracle secret create password password.txt
  printf text | coracle secret create --label team=web password -
  coracle secret create --template-driver golang database.conf database.conf.template

With --template-driver golang the nodes fill in the placeholders of services (see service create), and in addition
{{secret \"NAME\"}}, {{config \"NAME\"}} and {{env \"NAME\"}}: what the service is given under these names.

Services are given secrets as files in memory. With --secret source=NAME,env=NAME one is a variable instead: every process of the
container has it then, and hands it on to what it starts.")]
    Create(CreateArgs),
    /// List secrets
    #[command(visible_alias = "list", after_help = "Example:\n  coracle secret ls --filter label=team=web")]
    Ls(ListArgs),
    /// Show everything about secrets, except what they contain
    #[command(after_help = "Example:\n  coracle secret inspect --pretty password")]
    Inspect(InspectArgs),
    /// Give a secret a new version, which its services get with a rollout
    #[command(after_help = "Examples:
  coracle secret update password password.txt
  coracle secret update --label-add team=web password")]
    Update(UpdateArgs),
    /// Remove secrets that no service uses
    #[command(visible_alias = "remove", after_help = "Example:\n  coracle secret rm password")]
    Rm(RemoveArgs),
}

/// Runs one of them.
///
/// # Errors
/// What went wrong.
pub(crate) async fn run(command: Command, connection: &ConnectionArgs) -> anyhow::Result<()> {
    let context = Context::connect(connection).await?;
    match command {
        Command::Create(args) => file::create(&context, FileKind::Secret, args).await,
        Command::Ls(args) => file::list(&context, FileKind::Secret, args).await,
        Command::Inspect(args) => file::inspect(&context, FileKind::Secret, args).await,
        Command::Update(args) => file::update(&context, FileKind::Secret, args).await,
        Command::Rm(args) => file::remove(&context, FileKind::Secret, args).await,
    }
}
