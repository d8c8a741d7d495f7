//! `coracle swarm join-token`

use coracle_proto::v1;

use super::join_command;
use crate::context::Context;
use crate::error::say;
use crate::opt::mode::node_role;
use crate::output;

/// Flags of `swarm join-token`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only the token
    #[arg(short, long)]
    quiet: bool,
    /// Make a new token; the old one is void at once, nodes that have joined stay
    #[arg(long)]
    rotate: bool,
    /// worker or manager
    #[arg(value_name = "ROLE", value_parser = node_role)]
    role: v1::NodeRole,
}

/// Prints the token of a role.
///
/// # Errors
/// What went wrong.
pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<()> {
    let request = v1::GetJoinTokenRequest { role: args.role.into(), rotate: args.rotate };
    let call = async |request| context.swarm().get_join_token(request).await;
    let answer =
        if args.rotate { context.write(request, call).await? } else { context.call(request, call).await? };
    if args.quiet {
        return Ok(output::line(&answer.token)?);
    }
    let role = output::words::role(args.role.into());
    if args.rotate {
        say(&format!("The {role} token was replaced; the old one is void."));
    }
    let address = answer.addresses.first().map_or("MANAGER:2377", String::as_str);
    let text = format!(
        "To add a {role} to this swarm, run the following command:\n\n{}\n",
        join_command(&answer.token, address)
    );
    Ok(output::write(&output::printable(&text))?)
}
