//! `coracle service inspect`

use super::{get, pretty};
use crate::cmd::each;
use crate::cmd::inspect::{Found, InspectArgs};
use crate::context::Context;
use crate::output::template::docker;
use crate::output::{self, json};

/// Flags of `service inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// For people: what was said of the service, one thing in a line
    #[arg(long, conflicts_with = "format")]
    pretty: bool,
    #[command(flatten)]
    inspect: InspectArgs,
    /// Ids, names or unique prefixes of ids
    #[arg(required = true, value_name = "SERVICE")]
    services: Vec<String>,
}

/// Prints the services.
///
/// # Errors
/// What went wrong.
pub(crate) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let found = Found::with(docker::SERVICE);
    let outcome = each(&args.services, async |name| {
        let answer = get(context, name).await?;
        let service = answer.service.unwrap_or_default();
        if args.pretty {
            return Ok(output::write(&output::printable(&pretty::describe(&service, answer.counts)))?);
        }
        found.push(&json::Service::new(service, answer.counts))
    })
    .await;
    if !args.pretty {
        found.print(&args.inspect)?;
    }
    outcome
}
