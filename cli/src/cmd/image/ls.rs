//! `coracle image ls`

use coracle_model::image_ref::ImageReference;
use coracle_model::resources::MemoryBytes;
use coracle_proto::v1;

use crate::context::Context;
use crate::output::list::{Column, List, ListArgs};
use crate::output::{json, time};

const COLUMNS: &[Column] = &[
    Column::new("Repository", "REPOSITORY"),
    Column::new("Tag", "TAG"),
    Column::new("Digest", "DIGEST"),
    Column::new("CreatedSince", "CREATED"),
    Column::new("Size", "SIZE"),
    Column::new("Nodes", "NODES"),
    Column::new("InUse", "IN USE"),
    Column::hidden("Name", "NAME"),
];

/// Flags of `image ls`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    list: ListArgs,
}

/// Prints the images.
///
/// # Errors
/// What went wrong.
pub(crate) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let answer =
        context.call(v1::ListImagesRequest {}, async |request| context.images().list(request).await).await?;
    let mut images = answer.images;
    images.sort_by_cached_key(|item| item.image.as_ref().map(|image| image.name.clone()));
    let now = time::now();
    let mut list = List::new(COLUMNS);
    for item in images {
        let image = item.image.clone().unwrap_or_default();
        let name = familiar(&image.name);
        let cells = cells(&item, &image, &name, now, args.list.no_trunc);
        list.push(name, cells, &json::Image::from(item));
    }
    list.print(&args.list)
}

fn cells(item: &v1::ImageListItem, image: &v1::ImageEntry, name: &str, now: u64, whole: bool) -> Vec<String> {
    let (repository, tag) = match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, ""),
    };
    let digest = image.digest.strip_prefix("sha256:").unwrap_or(&image.digest);
    vec![
        repository.to_owned(),
        tag.to_owned(),
        if whole { image.digest.clone() } else { digest.chars().take(12).collect() },
        time::ago(image.created_at, now),
        MemoryBytes(image.size).to_string(),
        item.holders.to_string(),
        if item.in_use { "yes" } else { "no" }.to_owned(),
        name.to_owned(),
    ]
}

/// The short form of a full name: `web:1` for `docker.io/library/web:1`.
pub(crate) fn familiar(name: &str) -> String {
    name.parse::<ImageReference>().map_or_else(|_| name.to_owned(), |reference| reference.to_string())
}
