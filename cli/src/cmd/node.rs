//! `coracle node …`

mod ls;
mod pretty;
mod update;

use clap::Subcommand;
use coracle_proto::v1;

use super::inspect::{Found, InspectArgs};
use super::{each, task};
use crate::context::{ConnectionArgs, Context};
use crate::output::template::docker;
use crate::output::{self, json};

/// Commands on nodes.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the nodes of the cluster
    #[command(visible_alias = "list", after_help = "Example:\n  coracle node ls --filter role=worker")]
    Ls(ls::Args),
    /// Show everything about nodes
    #[command(after_help = "Example:\n  coracle node inspect self --format '{{.Status.State}}'")]
    Inspect {
        /// Ids, host names or unique prefixes of ids; self is the node that answers
        #[arg(default_value = "self", value_name = "NODE")]
        nodes: Vec<String>,
        /// For people: one thing in a line
        #[arg(long, conflicts_with = "format")]
        pretty: bool,
        #[command(flatten)]
        inspect: InspectArgs,
    },
    /// List the tasks on nodes
    #[command(after_help = "Example:\n  coracle node ps worker-1 --filter desired-state=running")]
    Ps {
        /// Ids, host names or unique prefixes of ids; self is the node that answers
        #[arg(default_value = "self", value_name = "NODE")]
        nodes: Vec<String>,
        #[command(flatten)]
        ps: task::PsArgs,
    },
    /// Change what is asked of a node
    #[command(
        after_help = "Example:\n  coracle node update --availability drain --label-add zone=a worker-1"
    )]
    Update(update::Args),
    /// Make managers of nodes
    #[command(after_help = "Example:\n  coracle node promote worker-1 worker-2")]
    Promote {
        /// Ids, host names or unique prefixes of ids
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
    },
    /// Make workers of managers
    #[command(after_help = "Example:\n  coracle node demote manager-3")]
    Demote {
        /// Ids, host names or unique prefixes of ids
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
    },
    /// Remove nodes from the cluster
    #[command(visible_alias = "remove", after_help = "Example:\n  coracle node rm worker-1")]
    Rm {
        /// Also while the node is not down
        #[arg(short, long)]
        force: bool,
        /// Ids, host names or unique prefixes of ids
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
    },
}

/// Runs one of them.
///
/// # Errors
/// What went wrong.
pub(crate) async fn run(command: Command, connection: &ConnectionArgs) -> anyhow::Result<()> {
    let context = Context::connect(connection).await?;
    match command {
        Command::Ls(args) => ls::run(&context, args).await,
        Command::Inspect { nodes, pretty: true, .. } => {
            each(&nodes, async |node| {
                let text = pretty::describe(&get(&context, node).await?);
                Ok(output::write(&output::printable(&text))?)
            })
            .await
        }
        Command::Inspect { nodes, inspect, .. } => {
            let found = Found::with(docker::NODE);
            let outcome =
                each(&nodes, async |node| found.push(&json::Node::from(get(&context, node).await?))).await;
            found.print(&inspect)?;
            outcome
        }
        Command::Ps { nodes, ps } => list_tasks(&context, &nodes, &ps).await,
        Command::Update(args) => update::run(&context, args).await,
        Command::Promote { nodes } => update::change_role(&context, &nodes, v1::NodeRole::Manager).await,
        Command::Demote { nodes } => update::change_role(&context, &nodes, v1::NodeRole::Worker).await,
        Command::Rm { force, nodes } => {
            each(&nodes, async |node| {
                let request = v1::RemoveNodeRequest { node: node.to_owned(), force };
                context.write(request, async |request| context.nodes().remove(request).await).await?;
                Ok(output::line(node)?)
            })
            .await
        }
    }
}

async fn get(context: &Context, node: &str) -> anyhow::Result<v1::NodeListItem> {
    let request = v1::GetNodeRequest { node: node.to_owned() };
    let answer = context.call(request, async |request| context.nodes().get(request).await).await?;
    Ok(answer.node.unwrap_or_default())
}

async fn list_tasks(context: &Context, nodes: &[String], ps: &task::PsArgs) -> anyhow::Result<()> {
    let mut ids = Vec::new();
    for node in nodes {
        ids.push(get(context, node).await?.node.unwrap_or_default().id);
    }
    let request = v1::ListTasksRequest { nodes: ids, ..Default::default() };
    task::print(context, request, ps).await
}
