//! `coracle service rebalance`

use coracle_proto::v1;
use serde::Serialize;

use super::flags::WaitFlags;
use super::{get, name_of};
use crate::cmd::{each, each_of};
use crate::context::{Context, idempotency_key};
use crate::error::say;
use crate::opt::count;
use crate::output::format::Format;
use crate::output::list::{Column, List, ListArgs};
use crate::output::{self, words};
use crate::progress::{self, Goal};

const COLUMNS: &[Column] = &[
    Column::new("Name", "NAME"),
    Column::new("From", "FROM"),
    Column::new("To", "TO"),
    Column::hidden("Task", "TASK"),
];

/// Flags of `service rebalance`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show what would be moved, and change nothing
    #[arg(long, conflicts_with_all = ["stop", "detach", "quiet", "timeout"])]
    dry_run: bool,
    /// Move no more than this many tasks
    #[arg(long, value_name = "NUMBER", value_parser = at_least_one)]
    max_moves: Option<u64>,
    /// End a rebalance that goes on, after the move that is under way
    #[arg(long, conflicts_with = "max_moves")]
    stop: bool,
    /// Of a dry run: table, json, or a template such as '{{.Name}} {{.To}}'
    #[arg(long, value_name = "FORMAT", requires = "dry_run")]
    format: Option<Format>,
    #[command(flatten)]
    wait: WaitFlags,
    /// Ids, names or unique prefixes of ids
    #[arg(required = true, value_name = "SERVICE")]
    services: Vec<String>,
}

fn at_least_one(text: &str) -> Result<u64, crate::opt::FlagError> {
    match count::parser("max-moves")(text)? {
        0 => Err(crate::opt::FlagError::new("max-moves", text, "use 1 or more; --stop ends a rebalance")),
        number => Ok(number),
    }
}

/// Begins all of them, then waits for each.
///
/// # Errors
/// What went wrong, after the others were tried.
pub(crate) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    if args.dry_run {
        return show(context, &args).await;
    }
    let limit = if args.stop { Some(0) } else { args.max_moves };
    let begun = std::cell::RefCell::new(Vec::new());
    let outcome = each(&args.services, async |reference| {
        let service = ask(context, reference, limit, false).await?.service.unwrap_or_default();
        output::line(reference)?;
        begun.borrow_mut().push((service.id.clone(), name_of(&service)));
        Ok(())
    })
    .await;
    let waited = each_of(&begun.take(), async |(id, name): &(String, String)| {
        progress::converge(context, id, name, &args.wait, Goal::REBALANCE).await?;
        if !args.wait.detach && !args.wait.quiet {
            let service = get(context, id).await?.service.unwrap_or_default();
            say(&format!("{name}: {}", service.rebalance.unwrap_or_default().message));
        }
        Ok(())
    })
    .await;
    outcome.and(waited)
}

async fn ask(
    context: &Context,
    service: &str,
    limit: Option<u64>,
    dry_run: bool,
) -> anyhow::Result<v1::RebalanceServiceResponse> {
    let request = v1::RebalanceServiceRequest {
        service: service.to_owned(),
        limit,
        dry_run,
        idempotency_key: idempotency_key(),
    };
    Ok(context.call(request, async |request| context.services().rebalance(request).await).await?)
}

/// One line of a dry run.
#[derive(Debug, Serialize)]
struct Moved {
    service: String,
    name: String,
    task: String,
    from: String,
    to: String,
}

async fn show(context: &Context, args: &Args) -> anyhow::Result<()> {
    let list = std::cell::RefCell::new(List::new(COLUMNS));
    let outcome = each(&args.services, async |reference| {
        let answer = ask(context, reference, args.max_moves, true).await?;
        let service = name_of(&answer.service.unwrap_or_default());
        for next in answer.moves {
            let name = format!("{service}.{}", words::slot(next.slot.as_ref()));
            let moved = Moved {
                service: service.clone(),
                name: name.clone(),
                task: next.task.clone(),
                from: next.from_hostname.clone(),
                to: next.to_hostname.clone(),
            };
            let cells = vec![name.clone(), next.from_hostname, next.to_hostname, next.task];
            list.borrow_mut().push(name, cells, &moved);
        }
        Ok(())
    })
    .await;
    list.into_inner().print(&ListArgs { quiet: false, format: args.format.clone(), no_trunc: false })?;
    outcome
}
