//! `coracle config …`

use clap::Subcommand;
use coracle_model::secret::FileKind;

use super::file::{self, CreateArgs, InspectArgs, ListArgs, RemoveArgs, UpdateArgs};
use crate::context::{ConnectionArgs, Context};

/// Commands on configs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a config from a file or the standard input
    #[command(after_help = "Examples:
  coracle config create nginx.conf site.conf
  printf text | coracle config create --label team=web nginx.conf -
  coracle config create --template-driver golang app.conf app.conf.template

With --template-driver golang the nodes fill in the placeholders of services (see service create), and in addition
{{secret \"NAME\"}}, {{config \"NAME\"}} and {{env \"NAME\"}}: what the service is given under these names.")]
    Create(CreateArgs),
    /// List configs
    #[command(visible_alias = "list", after_help = "Example:\n  coracle config ls --filter label=team=web")]
    Ls(ListArgs),
    /// Show everything about configs
    #[command(after_help = "Example:\n  coracle config inspect --pretty nginx.conf")]
    Inspect(InspectArgs),
    /// Give a config a new version, which its services get with a rollout
    #[command(after_help = "Examples:
  coracle config update nginx.conf site.conf
  coracle config update --label-add team=web nginx.conf")]
    Update(UpdateArgs),
    /// Remove configs that no service uses
    #[command(visible_alias = "remove", after_help = "Example:\n  coracle config rm nginx.conf")]
    Rm(RemoveArgs),
}

/// Runs one of them.
///
/// # Errors
/// What went wrong.
pub(crate) async fn run(command: Command, connection: &ConnectionArgs) -> anyhow::Result<()> {
    let context = Context::connect(connection).await?;
    match command {
        Command::Create(args) => file::create(&context, FileKind::Config, args).await,
        Command::Ls(args) => file::list(&context, FileKind::Config, args).await,
        Command::Inspect(args) => file::inspect(&context, FileKind::Config, args).await,
        Command::Update(args) => file::update(&context, FileKind::Config, args).await,
        Command::Rm(args) => file::remove(&context, FileKind::Config, args).await,
    }
}
