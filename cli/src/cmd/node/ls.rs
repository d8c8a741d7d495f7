//! `coracle node ls`

use coracle_proto::v1;

use crate::context::Context;
use crate::error;
use crate::opt::filter::{self, Filter, Filters};
use crate::output::json;
use crate::output::list::{Column, List, ListArgs};
use crate::output::words::{self, capital};

const COLUMNS: &[Column] = &[
    Column::new("ID", "ID"),
    Column::new("Hostname", "HOSTNAME"),
    Column::new("Status", "STATUS"),
    Column::new("Availability", "AVAILABILITY"),
    Column::new("ManagerStatus", "MANAGER STATUS"),
    Column::new("EngineVersion", "ENGINE VERSION"),
    Column::hidden("TLSStatus", "TLS STATUS"),
    Column::hidden("Labels", "LABELS"),
    Column::hidden("Self", "SELF"),
    Column::hidden("Role", "ROLE"),
    Column::hidden("Address", "ADDRESS"),
];
const FILTERS: &[&str] = &["id", "name", "role", "label", "node.label", "membership"];

/// Flags of `node ls`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only nodes with: id=, name=, role=, label= (engine label), node.label=, membership= (may be repeated)
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = filter::parse)]
    filter: Vec<Filter>,
    #[command(flatten)]
    list: ListArgs,
}

/// Prints the nodes.
///
/// # Errors
/// What went wrong.
pub(crate) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let filters = Filters::new(&args.filter, FILTERS)?;
    filters.check_words("role", &["worker", "manager"], &[])?;
    filters.check_words("membership", &["accepted", "pending"], &[])?;
    let answer =
        context.call(v1::ListNodesRequest {}, async |request| context.nodes().list(request).await).await?;
    if !answer.notice.is_empty() {
        error::say(&format!("warning: {}", answer.notice));
    }
    let mut nodes = answer.nodes;
    nodes.retain(|item| admitted(item, &filters));
    nodes.sort_by_cached_key(|item| {
        let node = item.node.clone().unwrap_or_default();
        (node.description.unwrap_or_default().hostname, node.id)
    });
    let mut list = List::new(COLUMNS);
    for item in nodes {
        let id = item.node.as_ref().map_or("", |node| node.id.as_str()).to_owned();
        let cells = cells(&item, &args.list);
        list.push(id, cells, &json::Node::from(item));
    }
    list.print(&args.list)
}

fn admitted(item: &v1::NodeListItem, filters: &Filters) -> bool {
    let node = item.node.clone().unwrap_or_default();
    let spec = node.spec.unwrap_or_default();
    let description = node.description.unwrap_or_default();
    filters.admit("id", |wanted| node.id.starts_with(wanted))
        && filters.admit("name", |wanted| description.hostname.starts_with(wanted))
        // Whoever joined was accepted: there is no other membership.
        && filters.admit("membership", |wanted| wanted == "accepted")
        && filters.admit("role", |wanted| words::role(spec.role) == wanted)
        && filters.admit_labels("label", |key| description.labels.get(key))
        && filters.admit_labels("node.label", |key| spec.labels.get(key))
}

fn cells(item: &v1::NodeListItem, args: &ListArgs) -> Vec<String> {
    let node = item.node.clone().unwrap_or_default();
    let spec = node.spec.unwrap_or_default();
    let description = node.description.unwrap_or_default();
    let status = node.status.unwrap_or_default();
    // Templates have a field for it, as Docker's.
    let marked = item.self_ && args.format.is_none();
    vec![
        if marked { format!("{} *", node.id) } else { node.id },
        description.hostname,
        capital(words::node_state(status.state)),
        capital(words::availability(spec.availability)),
        manager_status(item).to_owned(),
        description.engine_version,
        tls_status(status.state).to_owned(),
        words::labels(&spec.labels),
        item.self_.to_string(),
        words::role(spec.role).to_owned(),
        status.address,
    ]
}

/// Docker's words. The cluster has one root, which is not exchanged: who has a session has shown a certificate of it.
fn tls_status(state: i32) -> &'static str {
    if words::node_state(state) == "ready" { "Ready" } else { "Unknown" }
}

/// Docker's words; a manager that has no vote yet counts as neither.
pub(super) fn manager_status(item: &v1::NodeListItem) -> &'static str {
    let member = item.node.as_ref().is_some_and(|node| node.manager.is_some());
    match (member, item.leader, item.reachable, item.voter) {
        (false, false, ..) => "",
        (_, true, ..) => "Leader",
        (_, _, false, _) => "Unreachable",
        (_, _, true, true) => "Reachable",
        (_, _, true, false) => "Catching up",
    }
}
