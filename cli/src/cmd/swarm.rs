//! `coracle swarm …`

mod init;
mod join;
mod join_token;
mod operator_cert;
mod update;

use std::time::Duration;

use clap::Subcommand;
use coracle_proto::v1;

use crate::context::{ConnectionArgs, Context};
use crate::output;

/// How long making, joining and leaving a cluster may take.
const MEMBERSHIP_DEADLINE: Duration = Duration::from_secs(120);

/// Commands on the cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a cluster of this machine
    #[command(after_help = "Example:\n  coracle swarm init --advertise-addr 10.0.0.1")]
    Init(init::Args),
    /// Join a cluster
    #[command(after_help = "Examples:
  coracle swarm join --token CRCTKN-1-… 10.0.0.1:2377
  coracle swarm join --token - 10.0.0.1:2377 < token      (keeps the token out of the process list)")]
    Join(join::Args),
    /// Leave the cluster
    #[command(after_help = "Example:\n  coracle swarm leave --force")]
    Leave {
        /// Also on a manager, and when the managers cannot be reached
        #[arg(short, long)]
        force: bool,
    },
    /// Show how machines join as workers or managers
    #[command(after_help = "Example:\n  coracle swarm join-token --rotate worker")]
    JoinToken(join_token::Args),
    /// Change what the cluster allows
    #[command(after_help = "Example:\n  coracle swarm update --allow-privileged=false")]
    Update(update::Args),
    /// Make a certificate with which to use this cluster from elsewhere
    #[command(after_help = "Example:\n  coracle swarm operator-cert --name alice --validity 720h -o ./alice")]
    OperatorCert(operator_cert::Args),
}

/// Runs one of them.
///
/// # Errors
/// What went wrong.
pub(crate) async fn run(command: Command, connection: &ConnectionArgs) -> anyhow::Result<()> {
    match command {
        Command::Init(args) => init::run(&Context::connect(connection).await?, args).await,
        Command::Join(args) => join::run(args, connection).await,
        Command::Leave { force } => {
            let context = Context::connect(connection).await?;
            context.require_local()?;
            let request = v1::LeaveRequest { force };
            context
                .once(MEMBERSHIP_DEADLINE, request, async |request| context.local().leave(request).await)
                .await?;
            Ok(output::line("Node left the swarm.")?)
        }
        Command::JoinToken(args) => join_token::run(&Context::connect(connection).await?, &args).await,
        Command::Update(args) => update::run(&Context::connect(connection).await?, args).await,
        Command::OperatorCert(args) => operator_cert::run(&Context::connect(connection).await?, args).await,
    }
}

/// The command with which a machine joins.
fn join_command(token: &str, address: &str) -> String {
    format!("    coracle swarm join --token {token} {address}\n")
}
