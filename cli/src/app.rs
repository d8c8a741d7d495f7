//! The commands there are.

use clap::{Parser, Subcommand};

use crate::cmd::{completion, image, node, service, swarm, system, task, version};
use crate::context::ConnectionArgs;
use crate::daemon::DaemonArgs;
use crate::exit_code;

/// Runs services on a fleet of Linux machines
#[derive(Debug, Parser)]
#[command(
    name = "coracle",
    version,
    disable_help_subcommand = true,
    after_help = "Examples:
  coracle daemon                                   start the daemon (as root)
  coracle swarm init                               make a cluster of this machine
  coracle service create --name web --replicas 3 web:1
  coracle service ps web",
    after_long_help = exit_code::HELP
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub connection: ConnectionArgs,
    #[command(subcommand)]
    pub command: Command,
}

/// One command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the daemon of this machine
    Daemon(DaemonArgs),
    /// Make, join and leave a cluster
    #[command(subcommand)]
    Swarm(swarm::Command),
    /// Look at and change the machines of the cluster
    #[command(subcommand)]
    Node(node::Command),
    /// Run and change services
    #[command(subcommand)]
    Service(service::Command),
    /// Look at tasks
    #[command(subcommand)]
    Task(task::Command),
    /// Bring images into the cluster
    #[command(subcommand)]
    Image(image::Command),
    /// Look at this node and the control loops
    #[command(subcommand)]
    System(system::Command),
    /// Show the versions of this program and of the daemon
    Version(version::Args),
    /// Print the completion script of a shell
    Completion(completion::Args),
}

/// Runs a command other than the daemon.
///
/// # Errors
/// What went wrong, with an exit status and perhaps a hint in its chain.
pub(crate) async fn run(command: Command, connection: ConnectionArgs) -> anyhow::Result<()> {
    match command {
        Command::Daemon(args) => crate::daemon::run(args),
        Command::Swarm(command) => swarm::run(command, &connection).await,
        Command::Node(command) => node::run(command, &connection).await,
        Command::Service(command) => service::run(command, &connection).await,
        Command::Task(command) => task::run(command, &connection).await,
        Command::Image(command) => image::run(command, &connection).await,
        Command::System(command) => system::run(command, &connection).await,
        Command::Version(args) => version::run(args, &connection).await,
        Command::Completion(args) => completion::run(&args),
    }
}
