//! `coracle volume rm`

use std::time::Duration;

use coracle_proto::v1;

use super::{tell_failures, tell_silent};
use crate::cmd::each;
use crate::context::Context;
use crate::output;

/// How long removing may take: there may be much in a volume.
const DEADLINE: Duration = Duration::from_secs(620);

/// Flags of `volume rm`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// From every node that has it
    #[arg(long, conflicts_with = "node")]
    all_nodes: bool,
    /// One that is not there is no failure
    #[arg(short, long)]
    force: bool,
    /// From this node: id, host name or unique prefix of an id (may be repeated); needed when several have it or one that may is not heard
    #[arg(long, value_name = "NODE")]
    node: Vec<String>,
    /// Names of volumes
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Removes them and prints their names.
///
/// # Errors
/// What went wrong.
pub(crate) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    each(&args.names, async |name| {
        let request = v1::RemoveVolumeRequest {
            name: name.to_owned(),
            nodes: args.node.clone(),
            all_nodes: args.all_nodes,
            force: args.force,
        };
        let answer =
            context.once(DEADLINE, request, async |request| context.volumes().remove(request).await).await?;
        if !answer.removed.is_empty() {
            output::line(name)?;
        }
        tell_silent(&answer.silent);
        tell_failures(answer.failures)
    })
    .await
}
