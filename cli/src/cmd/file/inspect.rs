//! `coracle secret inspect` and `coracle config inspect`

use std::fmt::Write as _;

use coracle_model::secret::FileKind;
use coracle_proto::v1;

use crate::cmd::each;
use crate::cmd::inspect::{Found, InspectArgs};
use crate::context::Context;
use crate::output::template::docker;
use crate::output::{json, time, write};

/// Flags of `inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    inspect: InspectArgs,
    /// For people
    #[arg(long, conflicts_with_all = ["format", "quiet"])]
    pretty: bool,
    /// Ids, names or unique prefixes of ids
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Prints what was found.
///
/// # Errors
/// What went wrong.
pub(crate) async fn run(context: &Context, kind: FileKind, args: Args) -> anyhow::Result<()> {
    let (found, text) = (Found::with(docker::FILE), std::cell::RefCell::new(String::new()));
    let result = each(&args.names, async |name| {
        let request = v1::GetFileRequest { kind: v1::FileKind::from(kind).into(), file: name.to_owned() };
        let answer = context.call(request, async |request| context.files().get(request).await).await?;
        let file = answer.file.unwrap_or_default();
        if args.pretty {
            pretty(&mut text.borrow_mut(), kind, &file, &answer.services)?;
            return Ok(());
        }
        found.push(&json::File::new(file, answer.services))
    })
    .await;
    if args.pretty {
        write(&text.borrow())?;
    } else {
        found.print(&args.inspect)?;
    }
    result
}

fn pretty(text: &mut String, kind: FileKind, file: &v1::File, services: &[String]) -> std::fmt::Result {
    if !text.is_empty() {
        text.push('\n');
    }
    let time = time::seconds;
    writeln!(text, "ID:         {}", file.id)?;
    writeln!(text, "Name:       {}", file.name)?;
    let mut labels: Vec<_> = file.labels.iter().collect();
    labels.sort();
    for (key, value) in labels {
        writeln!(text, "Label:      {key}={value}")?;
    }
    writeln!(text, "Created at: {}", time(file.created_at))?;
    writeln!(text, "Updated at: {}", time(file.updated_at))?;
    for content in &file.contents {
        writeln!(text, "Version {}: {} bytes, {}", content.number, content.size, time(content.created_at))?;
    }
    if !services.is_empty() {
        writeln!(text, "Used by:    {}", services.join(", "))?;
    }
    if let (FileKind::Config, Some(latest)) = (kind, json::latest(file)) {
        writeln!(text, "Data:\n{}", String::from_utf8_lossy(&latest.data).trim_end_matches('\n'))?;
    }
    Ok(())
}
