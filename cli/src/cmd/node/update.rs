//! `coracle node update`, `promote` and `demote`

use coracle_model::node::Availability;
use coracle_proto::v1;

use crate::cmd::each;
use crate::context::Context;
use crate::opt::label::{self, Label};
use crate::opt::mode::node_role;
use crate::output;

/// Flags of `node update`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// active (gets tasks), pause (gets no more) or drain (its tasks are moved away)
    #[arg(long, value_name = "AVAILABILITY")]
    availability: Option<Availability>,
    /// worker or manager
    #[arg(long, value_name = "ROLE", value_parser = node_role)]
    role: Option<v1::NodeRole>,
    /// Add or replace a label (may be repeated)
    #[arg(long, value_name = "KEY=VALUE", value_parser = label::parser("label-add"))]
    label_add: Vec<Label>,
    /// Remove a label (may be repeated)
    #[arg(long, value_name = "KEY")]
    label_rm: Vec<String>,
    /// Id, host name or unique prefix of an id
    #[arg(value_name = "NODE")]
    node: String,
}

/// Changes the node and prints its name.
///
/// # Errors
/// What went wrong.
pub(crate) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let request = v1::UpdateNodeRequest {
        node: args.node.clone(),
        availability: args.availability.map(|availability| v1::Availability::from(availability).into()),
        role: args.role.map(Into::into),
        labels_set: args.label_add.into_iter().map(|label| (label.key, label.value)).collect(),
        labels_removed: args.label_rm,
    };
    context.write(request, async |request| context.nodes().update(request).await).await?;
    Ok(output::line(&args.node)?)
}

/// Asks nodes to become managers or workers.
///
/// # Errors
/// What went wrong.
pub(crate) async fn change_role(
    context: &Context,
    nodes: &[String],
    role: v1::NodeRole,
) -> anyhow::Result<()> {
    each(nodes, async |node| {
        let request =
            v1::UpdateNodeRequest { node: node.to_owned(), role: Some(role.into()), ..Default::default() };
        context.write(request, async |request| context.nodes().update(request).await).await?;
        Ok(output::line(&match role {
            v1::NodeRole::Manager => format!("Node {node} promoted to a manager in the swarm."),
            _ => format!("Manager {node} demoted in the swarm."),
        })?)
    })
    .await
}
