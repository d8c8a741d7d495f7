//! `coracle service ls`

use coracle_proto::v1;

use crate::context::Context;
use crate::opt::filter::{self, Filter, Filters};
use crate::opt::port;
use crate::output::list::{Column, List, ListArgs, short_id};
use crate::output::{json, words};

const COLUMNS: &[Column] = &[
    Column::new("ID", "ID"),
    Column::new("Name", "NAME"),
    Column::new("Mode", "MODE"),
    Column::new("Replicas", "REPLICAS"),
    Column::new("Image", "IMAGE"),
    Column::new("Ports", "PORTS"),
    Column::hidden("Labels", "LABELS"),
];
const FILTERS: &[&str] = &["id", "name", "mode", "label", "runtime"];
const MODES: &[&str] = &["replicated", "global", "replicated-job", "global-job"];

/// Flags of `service ls`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only services with: id=, name=, mode=, label=, runtime=container (may be repeated)
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = filter::parse)]
    filter: Vec<Filter>,
    #[command(flatten)]
    list: ListArgs,
}

/// Prints the services.
///
/// # Errors
/// What went wrong.
pub(crate) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let filters = Filters::new(&args.filter, FILTERS)?;
    filters.check_words("mode", MODES, &[])?;
    filters.check_words("runtime", &["container"], &[])?;
    let answer = context
        .call(v1::ListServicesRequest {}, async |request| context.services().list(request).await)
        .await?;
    let mut services: Vec<_> = answer
        .services
        .into_iter()
        .map(|item| (item.service.unwrap_or_default(), item.counts.unwrap_or_default()))
        .filter(|(service, _)| admitted(service, &filters))
        .collect();
    services.sort_by_cached_key(|(service, _)| super::name_of(service));
    let mut list = List::new(COLUMNS);
    for (service, counts) in services {
        let id = short_id(&service.id, &args.list);
        let row = json::ServiceRow::new(&service, counts);
        list.push(id.clone(), cells(id, service, counts), &row);
    }
    list.print(&args.list)
}

fn admitted(service: &v1::Service, filters: &Filters) -> bool {
    let spec = service.spec.clone().unwrap_or_default();
    filters.admit("id", |wanted| service.id.starts_with(wanted))
        && filters.admit("name", |wanted| spec.name.starts_with(wanted))
        && filters.admit("mode", |wanted| words::mode(spec.mode.as_ref()) == wanted)
        && filters.admit_labels("label", |key| spec.labels.get(key))
}

fn cells(id: String, service: v1::Service, counts: v1::ServiceCounts) -> Vec<String> {
    let spec = service.spec.unwrap_or_default();
    let replicas = words::replicas(&spec, counts);
    let task = spec.task.unwrap_or_default();
    let placement = task.placement.unwrap_or_default();
    let most = placement.max_replicas_per_node;
    let most = if most > 0 { format!(" (max {most} per node)") } else { String::new() };
    vec![
        id,
        spec.name,
        words::mode(spec.mode.as_ref()).to_owned(),
        format!("{replicas}{most}"),
        task.container.unwrap_or_default().image.unwrap_or_default().reference,
        port::list(&placement.host_ports),
        words::labels(&spec.labels),
    ]
}
