//! `coracle volume ls`

use std::collections::BTreeSet;

use coracle_model::volume::LOCAL_DRIVER;
use coracle_proto::v1;

use super::{count, tell_silent};
use crate::context::Context;
use crate::opt::filter::{self, Filter, Filters};
use crate::output::list::{Column, List, ListArgs};
use crate::output::{self, json, time, words};

const COLUMNS: &[Column] = &[
    Column::new("Node", "NODE"),
    Column::new("Driver", "DRIVER"),
    Column::new("Name", "VOLUME NAME"),
    Column::new("InUse", "IN USE"),
    Column::new("CreatedSince", "CREATED"),
    Column::hidden("NodeID", "NODE ID"),
    Column::hidden("Labels", "LABELS"),
    Column::hidden("Anonymous", "ANONYMOUS"),
    Column::hidden("Scope", "SCOPE"),
];
const FILTERS: &[&str] = &["name", "label", "node", "dangling", "driver"];

/// Flags of `volume ls`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only volumes with: name= (a part of it), label=KEY or label=KEY=VALUE, node=, dangling=true (no task uses it),
    /// driver= (may be repeated)
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = filter::parse)]
    filter: Vec<Filter>,
    #[command(flatten)]
    list: ListArgs,
}

/// Prints the volumes, by name.
///
/// # Errors
/// What went wrong.
pub(crate) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let filters = Filters::new(&args.filter, FILTERS)?;
    filters.check_words("dangling", &["true", "false"], &["1", "0"])?;
    let answer = context
        .call(v1::ListVolumesRequest {}, async |request| context.volumes().list(request).await)
        .await?;
    tell_silent(&answer.silent);
    let mut volumes = answer.volumes;
    volumes.retain(|item| admitted(item, &filters));
    volumes.sort_by_cached_key(|item| {
        (item.volume.clone().unwrap_or_default().name, item.node_hostname.clone(), item.node_id.clone())
    });
    if args.list.quiet {
        // The same name on several nodes is one name.
        let names = volumes.into_iter().map(|item| item.volume.unwrap_or_default().name);
        let names: BTreeSet<String> = names.collect();
        return Ok(output::write(&names.iter().map(|name| format!("{name}\n")).collect::<String>())?);
    }
    let now = time::now();
    let mut list = List::new(COLUMNS);
    for item in volumes {
        list.push(String::new(), cells(&item, now), &json::Volume::from(item));
    }
    list.print(&args.list)
}

fn admitted(item: &v1::NodeVolume, filters: &Filters) -> bool {
    let volume = item.volume.clone().unwrap_or_default();
    let dangling = if volume.used_by == 0 { ["true", "1"] } else { ["false", "0"] };
    filters.admit("name", |part| volume.name.contains(part))
        && filters.admit_labels("label", |key| volume.labels.get(key))
        && filters.admit("node", |node| item.node_hostname == node || item.node_id.starts_with(node))
        && filters.admit("dangling", |wanted| dangling.contains(&wanted))
        && filters.admit("driver", |driver| driver == LOCAL_DRIVER)
}

fn cells(item: &v1::NodeVolume, now: u64) -> Vec<String> {
    let volume = item.volume.clone().unwrap_or_default();
    vec![
        item.node_hostname.clone(),
        LOCAL_DRIVER.to_owned(),
        volume.name.clone(),
        if volume.used_by == 0 { "no".to_owned() } else { count(volume.used_by as usize, "task") },
        time::ago(volume.created_at, now),
        item.node_id.clone(),
        words::labels(&volume.labels),
        volume.anonymous.to_string(),
        "local".to_owned(),
    ]
}
