//! What `coracle secret …` and `coracle config …` share.

mod inspect;
mod ls;
mod read;

use std::path::PathBuf;

use coracle_model::secret::FileKind;
use coracle_proto::v1;

use super::each;
use crate::context::{Context, idempotency_key};
use crate::opt::label::{self, Label};
use crate::output;

pub(crate) use inspect::Args as InspectArgs;
pub(crate) use ls::Args as ListArgs;

/// Flags of `create`.
#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    /// A label (may be repeated)
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = label::parser("label"))]
    label: Vec<Label>,
    /// Fill in placeholders on the node: golang
    #[arg(long, value_name = "DRIVER", value_parser = ["golang"])]
    template_driver: Option<String>,
    /// Name of the new one
    #[arg(value_name = "NAME")]
    name: String,
    /// What it contains; - is the standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Flags of `update`.
#[derive(Debug, clap::Args)]
pub(crate) struct UpdateArgs {
    /// Add or replace a label (may be repeated)
    #[arg(long, value_name = "KEY=VALUE", value_parser = label::parser("label-add"))]
    label_add: Vec<Label>,
    /// Remove a label (may be repeated)
    #[arg(long, value_name = "KEY")]
    label_rm: Vec<String>,
    /// Id, name or unique prefix of an id
    #[arg(value_name = "NAME")]
    name: String,
    /// What its new version contains; - is the standard input
    #[arg(value_name = "FILE", required_unless_present_any = ["label_add", "label_rm"])]
    file: Option<PathBuf>,
}

/// Flags of `rm`.
#[derive(Debug, clap::Args)]
pub(crate) struct RemoveArgs {
    /// Ids, names or unique prefixes of ids
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Makes one and prints its id.
///
/// # Errors
/// What went wrong.
pub(crate) async fn create(context: &Context, kind: FileKind, args: CreateArgs) -> anyhow::Result<()> {
    let request = v1::CreateFileRequest {
        kind: v1::FileKind::from(kind).into(),
        name: args.name,
        labels: pairs(args.label),
        data: read::content(kind, &args.file)?,
        template: args.template_driver.is_some(),
        idempotency_key: idempotency_key(),
    };
    let answer = context.call(request, async |request| context.files().create(request).await).await?;
    Ok(output::line(&answer.file.unwrap_or_default().id)?)
}

/// Changes one and prints its name as it was given.
///
/// # Errors
/// What went wrong.
pub(crate) async fn update(context: &Context, kind: FileKind, args: UpdateArgs) -> anyhow::Result<()> {
    let request = v1::UpdateFileRequest {
        kind: v1::FileKind::from(kind).into(),
        file: args.name.clone(),
        labels_set: pairs(args.label_add),
        labels_removed: args.label_rm,
        data: args.file.map(|file| read::content(kind, &file)).transpose()?,
        idempotency_key: idempotency_key(),
    };
    context.call(request, async |request| context.files().update(request).await).await?;
    Ok(output::line(&args.name)?)
}

/// Lists them.
///
/// # Errors
/// What went wrong.
pub(crate) async fn list(context: &Context, kind: FileKind, args: ListArgs) -> anyhow::Result<()> {
    ls::run(context, kind, args).await
}

/// Shows everything about some, except what secrets contain.
///
/// # Errors
/// What went wrong.
pub(crate) async fn inspect(context: &Context, kind: FileKind, args: InspectArgs) -> anyhow::Result<()> {
    inspect::run(context, kind, args).await
}

/// Removes some and prints their names as they were given.
///
/// # Errors
/// What went wrong.
pub(crate) async fn remove(context: &Context, kind: FileKind, args: RemoveArgs) -> anyhow::Result<()> {
    each(&args.names, async |name| {
        let request = v1::RemoveFileRequest {
            kind: v1::FileKind::from(kind).into(),
            file: name.to_owned(),
            idempotency_key: idempotency_key(),
        };
        context.call(request, async |request| context.files().remove(request).await).await?;
        Ok(output::line(name)?)
    })
    .await
}

fn pairs(labels: Vec<Label>) -> std::collections::HashMap<String, String> {
    labels.into_iter().map(|label| (label.key, label.value)).collect()
}
