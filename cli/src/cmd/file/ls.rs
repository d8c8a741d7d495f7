//! `coracle secret ls` and `coracle config ls`

use coracle_model::secret::FileKind;
use coracle_proto::v1;

use crate::context::Context;
use crate::opt::filter::{self, Filter, Filters};
use crate::output::list::{Column, List, ListArgs, short_id};
use crate::output::{json, time, words};

const COLUMNS: &[Column] = &[
    Column::new("ID", "ID"),
    Column::new("Name", "NAME"),
    Column::new("Latest", "LATEST"),
    Column::new("CreatedAt", "CREATED"),
    Column::new("UpdatedAt", "UPDATED"),
    Column::new("Services", "SERVICES"),
    Column::hidden("Labels", "LABELS"),
    Column::hidden("Versions", "VERSIONS"),
];

/// Flags of `ls`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    list: ListArgs,
    /// Only those that fit: id, name (a part of it), label=KEY or label=KEY=VALUE
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = filter::parse)]
    filter: Vec<Filter>,
}

/// Prints them, by name.
///
/// # Errors
/// What went wrong.
pub(crate) async fn run(context: &Context, kind: FileKind, args: Args) -> anyhow::Result<()> {
    let filters = Filters::new(&args.filter, &["id", "name", "label"])?;
    let request = v1::ListFilesRequest { kind: v1::FileKind::from(kind).into() };
    let answer = context.call(request, async |request| context.files().list(request).await).await?;
    let mut files: Vec<_> =
        answer.files.into_iter().map(|item| (item.file.unwrap_or_default(), item.services)).collect();
    files.retain(|(file, _)| {
        filters.admit("id", |id| file.id.starts_with(id))
            && filters.admit("name", |name| file.name.contains(name))
            && filters.admit_labels("label", |label| file.labels.get(label))
    });
    files.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    let now = time::now();
    let mut list = List::new(COLUMNS);
    for (file, services) in files {
        let id = short_id(&file.id, &args.list);
        let cells = cells(&file, &services, id.clone(), now);
        list.push(id, cells, &json::File::new(file, services));
    }
    list.print(&args.list)
}

fn cells(file: &v1::File, services: &[String], id: String, now: u64) -> Vec<String> {
    let latest = json::latest(file).map_or(0, |content| content.number);
    let numbers: Vec<_> = file.contents.iter().map(|content| content.number.to_string()).collect();
    vec![
        id,
        file.name.clone(),
        latest.to_string(),
        time::ago(file.created_at, now),
        time::ago(file.updated_at, now),
        services.len().to_string(),
        words::labels(&file.labels),
        numbers.join(","),
    ]
}
