//! `coracle volume prune`

use std::io::{self, BufRead as _, IsTerminal as _};
use std::time::Duration;

use coracle_model::resources::MemoryBytes;
use coracle_proto::v1;

use super::{tell_failures, tell_silent};
use crate::context::Context;
use crate::error::{Failure, say};
use crate::exit_code::ExitCode;
use crate::opt::FlagError;
use crate::output;

/// How long removing may take: there may be much in the volumes.
const DEADLINE: Duration = Duration::from_secs(620);

/// Flags of `volume prune`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also those that were made with a name
    #[arg(short, long)]
    all: bool,
    /// Only volumes with: label=KEY, label=KEY=VALUE, or without with label!= (may be repeated; all must hold)
    #[arg(long, value_name = "FILTER", value_parser = label_filter)]
    filter: Vec<v1::VolumeLabelFilter>,
    /// Do not ask first
    #[arg(short, long)]
    force: bool,
    /// Only on this node: id, host name or unique prefix of an id (may be repeated)
    #[arg(long, value_name = "NODE")]
    node: Vec<String>,
}

fn label_filter(text: &str) -> Result<v1::VolumeLabelFilter, FlagError> {
    let label = text.strip_prefix("label!=").map(|label| (label, true));
    let Some((label, absent)) = label.or_else(|| text.strip_prefix("label=").map(|label| (label, false)))
    else {
        return Err(FlagError::new("filter", text, "use label=KEY, label=KEY=VALUE or label!=…"));
    };
    let (key, value) =
        label.split_once('=').map_or((label, None), |(key, value)| (key, Some(value.to_owned())));
    if key.is_empty() {
        return Err(FlagError::new("filter", text, "the label's key is empty"));
    }
    Ok(v1::VolumeLabelFilter { key: key.to_owned(), value, absent })
}

/// Asks, removes them, and prints which.
///
/// # Errors
/// What went wrong.
pub(crate) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    if !args.force && !is_meant(&args)? {
        say("nothing was removed");
        return Ok(());
    }
    let request = v1::PruneVolumesRequest { nodes: args.node, all: args.all, labels: args.filter };
    let answer =
        context.once(DEADLINE, request, async |request| context.volumes().prune(request).await).await?;
    let freed = answer.nodes.iter().map(|node| node.freed).sum();
    let mut nodes = answer.nodes;
    nodes.sort_by(|a, b| a.node_hostname.cmp(&b.node_hostname));
    for node in nodes {
        for volume in node.volumes {
            output::line(&format!("{}: {volume}", node.node_hostname))?;
        }
    }
    output::line(&format!("Total reclaimed space: {}", MemoryBytes(freed)))?;
    tell_silent(&answer.silent);
    tell_failures(answer.failures)
}

fn is_meant(args: &Args) -> anyhow::Result<bool> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::new(ExitCode::Usage, "there is no terminal to ask whether this is meant")
            .with_hint("say so with --force")
            .into());
    }
    let which = if args.all { "ALL volumes" } else { "all anonymous volumes" };
    let fitting = if args.filter.is_empty() { "" } else { " that fit the filters" };
    let place = if args.node.is_empty() { "all nodes".to_owned() } else { args.node.join(", ") };
    say(&format!("This removes {which}{fitting} that no task uses, with all that is in them, from {place}."));
    say("Go on? [y/N]");
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_of_labels() {
        let filter = |key: &str, value: Option<&str>, absent| v1::VolumeLabelFilter {
            key: key.to_owned(),
            value: value.map(str::to_owned),
            absent,
        };
        assert_eq!(label_filter("label=a"), Ok(filter("a", None, false)));
        assert_eq!(label_filter("label=a=b=c"), Ok(filter("a", Some("b=c"), false)));
        assert_eq!(label_filter("label!=a"), Ok(filter("a", None, true)));
        assert_eq!(label_filter("label!=a=b"), Ok(filter("a", Some("b"), true)));
        for text in ["", "label", "label=", "label==x", "until=1h"] {
            let error = label_filter(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("filter: invalid value {text:?}")), "{error}");
        }
    }
}
