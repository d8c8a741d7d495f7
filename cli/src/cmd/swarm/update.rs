//! `coracle swarm update`

use coracle_proto::v1;

use crate::context::Context;
use crate::output;

/// Flags of `swarm update`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Let services have power over their nodes: privileged containers, devices, namespaces of the node, no confinement
    #[arg(long, value_name = "BOOLEAN", num_args = 0..=1, require_equals = true, default_missing_value = "true", required = true)]
    allow_privileged: Option<bool>,
}

/// Changes the cluster.
///
/// # Errors
/// What went wrong.
pub(crate) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let request = v1::UpdateClusterRequest { allow_privileged: args.allow_privileged };
    context.call(request, async |request| context.swarm().update_cluster(request).await).await?;
    Ok(output::line("Swarm updated.")?)
}
