//! `coracle service inspect`

use coracle_model::resources::{MemoryBytes, NanoCpus};
use coracle_proto::v1;

use super::get;
use crate::cmd::each;
use crate::cmd::inspect::{Found, InspectArgs};
use crate::context::Context;
use crate::opt::mount::MountFlag;
use crate::output::{self, json, words};

/// Flags of `service inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// For people: the most important parts, one in a line
    #[arg(long, conflicts_with = "format")]
    pretty: bool,
    #[command(flatten)]
    inspect: InspectArgs,
    /// Ids, names or unique prefixes of ids
    #[arg(required = true, value_name = "SERVICE")]
    services: Vec<String>,
}

/// Prints the services.
///
/// # Errors
/// What went wrong.
pub(crate) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let found = Found::default();
    let outcome = each(&args.services, async |name| {
        let answer = get(context, name).await?;
        let service = answer.service.unwrap_or_default();
        if args.pretty {
            return Ok(output::write(&output::printable(&describe(&service, answer.counts)))?);
        }
        found.push(&json::Service::new(service, answer.counts))
    })
    .await;
    if !args.pretty {
        found.print(&args.inspect)?;
    }
    outcome
}

fn describe(service: &v1::Service, counts: Option<v1::ServiceCounts>) -> String {
    let spec = service.spec.clone().unwrap_or_default();
    let task = spec.task.unwrap_or_default();
    let container = task.container.unwrap_or_default();
    let image = container.image.unwrap_or_default();
    let counts = counts.unwrap_or_default();
    let update = service.update.clone().unwrap_or_default();
    let mut lines = vec![
        ("ID", service.id.clone()),
        ("Name", spec.name),
        ("Mode", words::mode(spec.mode.as_ref()).to_owned()),
        ("Tasks", format!("{} running, {} wanted", counts.running, counts.desired)),
        ("Update", format!("{} {}", words::update_state(update.state), update.message).trim().to_owned()),
        ("Image", image.reference),
        ("Digest", image.digest),
        ("Args", container.args.join(" ")),
        ("User", container.user),
        ("Network", words::network(task.network).to_owned()),
        ("Restart", words::restart_condition(task.restart.unwrap_or_default().condition).to_owned()),
        ("Constraints", task.placement.unwrap_or_default().constraints.join(", ")),
        ("Limits", describe_limits(&task.limits.unwrap_or_default())),
    ];
    lines.extend(container.env.into_iter().map(|variable| ("Env", variable)));
    lines.extend(container.mounts.into_iter().map(|mount| ("Mount", MountFlag(mount).to_string())));
    lines
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name}: {value}\n"))
        .collect()
}

fn describe_limits(limits: &v1::Limits) -> String {
    let mut parts = Vec::new();
    if limits.nano_cpus > 0 {
        parts.push(format!("{} cpus", NanoCpus(limits.nano_cpus)));
    }
    if limits.memory_bytes > 0 {
        parts.push(format!("{} memory", MemoryBytes(limits.memory_bytes)));
    }
    if limits.pids > 0 {
        parts.push(format!("{} processes", limits.pids));
    }
    parts.join(", ")
}
