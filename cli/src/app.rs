//! The commands there are.

pub(crate) mod elsewhere;
mod switch;

use std::ffi::OsString;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::cmd::{completion, config, image, node, secret, service, swarm, system, task, version, volume};
use crate::context::ConnectionArgs;
use crate::daemon::DaemonArgs;
use crate::exit_code;

const EXAMPLES: &str = "\
Examples:
  coracle daemon                                   start the daemon (as root)
  coracle swarm init                               make a cluster of this machine
  coracle service create --name web --replicas 3 web:1
  coracle service ps web";

/// Runs services on a fleet of Linux machines
#[derive(Debug, Parser)]
#[command(
    name = "coracle",
    version,
    args_override_self = true,
    after_help = EXAMPLES,
    after_long_help = format!("{EXAMPLES}\n\n{}", exit_code::HELP)
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
    /// Keep passwords and keys that services are given as files
    #[command(subcommand)]
    Secret(secret::Command),
    /// Keep configuration files that services are given
    #[command(subcommand)]
    Config(config::Command),
    /// Look at, make, save and restore the volumes of the nodes
    #[command(subcommand)]
    Volume(volume::Command),
    /// Look at this node and the control loops
    #[command(subcommand)]
    System(system::Command),
    /// Show the versions of this program and of the daemon
    Version(version::Args),
    /// Print the completion script of a shell
    Completion(completion::Args),
}

/// Reads a command line, the program's name first.
///
/// # Errors
/// What is refused and why, or the help that was asked for.
pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let words: Vec<OsString> = words.into_iter().collect();
    Cli::try_parse_from(&words).or_else(|plain| {
        let matches = switch::with_values(Cli::command()).try_get_matches_from(&words);
        let parsed = matches.and_then(|matches| Cli::from_arg_matches(&matches));
        // Help and refusals show switches without the values that nobody needs.
        parsed.map_err(|error| if error.kind() == plain.kind() { plain } else { error })
    })
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
        Command::Secret(command) => secret::run(command, &connection).await,
        Command::Config(command) => config::run(command, &connection).await,
        Command::Volume(command) => volume::run(command, &connection).await,
        Command::System(command) => system::run(command, &connection).await,
        Command::Version(args) => version::run(args, &connection).await,
        Command::Completion(args) => completion::run(&args),
    }
}

#[cfg(test)]
mod reference;

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(parent: &clap::Command, path: &str, found: &mut Vec<(String, clap::Command)>) {
        for command in parent.get_subcommands() {
            let path = format!("{path} {}", command.get_name());
            if command.has_subcommands() {
                commands(command, &path, found);
            } else {
                found.push((path, command.clone()));
            }
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example_that_is_accepted() {
        let mut found = Vec::new();
        commands(&Cli::command(), "coracle", &mut found);
        assert!(found.len() > 20);
        for (path, command) in found {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples: Vec<_> = help.lines().filter(|line| line.contains(&path)).collect();
            assert!(!examples.is_empty(), "{path} has no example");
            for example in examples {
                let line = example
                    .split(['>', '<'])
                    .next()
                    .unwrap_or_default()
                    .rsplit('|')
                    .next()
                    .unwrap_or_default();
                let words = crate::opt::words::split("example", line.trim()).unwrap();
                let words = words.iter().map(OsString::from);
                let parsed = parse(words).map(drop).map_err(|error| error.to_string());
                assert_eq!(parsed, Ok(()), "{example}");
            }
        }
    }
}
