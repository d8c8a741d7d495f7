//! `coracle system …`

use clap::{Args, Subcommand};
use coracle_model::resources::{MemoryBytes, NanoCpus};
use coracle_proto::v1;

use crate::context::{ConnectionArgs, Context};
use crate::output::format::Format;
use crate::output::list::{Column, List, ListArgs};
use crate::output::{self, json, time, words};

/// Commands on this node.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show this node: its place in the cluster, its resources, its connections
    #[command(after_help = "Example:\n  coracle system info --format '{{.State}}'")]
    Info(InfoArgs),
    /// Show the control loops of the leader
    #[command(after_help = "Example:\n  coracle system loops --format json")]
    Loops(ListArgs),
}

/// Flags of `system info`.
#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    /// json, or a template such as '{{.NodeID}}'
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<Format>,
}

/// Runs one of them.
///
/// # Errors
/// What went wrong.
pub(crate) async fn run(command: Command, connection: &ConnectionArgs) -> anyhow::Result<()> {
    let context = Context::connect(connection).await?;
    match command {
        Command::Info(args) => info(&context, args).await,
        Command::Loops(args) => loops(&context, &args).await,
    }
}

async fn info(context: &Context, args: InfoArgs) -> anyhow::Result<()> {
    context.require_local()?;
    let info = context.call(v1::InfoRequest {}, async |request| context.local().info(request).await).await?;
    match args.format {
        Some(Format::Json) => output::write_json(&json::Info::from(info)),
        Some(Format::Lines(template)) => {
            Ok(output::line(&template.render(&serde_json::to_value(json::Info::from(info))?)?)?)
        }
        _ => {
            let warnings = info.warnings.clone();
            output::write(&output::printable(&describe(info)))?;
            warnings.iter().for_each(|warning| crate::error::say(&format!("warning: {warning}")));
            Ok(())
        }
    }
}

fn describe(info: v1::InfoResponse) -> String {
    let platform = info.platform.unwrap_or_default();
    let resources = info.resources.unwrap_or_default();
    let mut lines = vec![
        ("Version", info.version),
        ("State", info.state),
        ("Node ID", info.node_id),
        ("Cluster ID", info.cluster_id),
        ("Role", words::role(info.role).to_owned()),
        ("Address", info.address),
        ("Host name", info.hostname),
        ("Platform", format!("{}/{}", platform.os, platform.architecture)),
        ("Kernel", info.kernel),
        ("Cgroups", info.cgroup_version),
        ("CPUs", NanoCpus(resources.nano_cpus).to_string()),
        ("Memory", MemoryBytes(resources.memory_bytes).to_string()),
        ("Containers running", info.containers_running.to_string()),
        ("Data directory", info.data_directory),
        ("Run directory", info.run_directory),
        ("Managers", info.managers.join(", ")),
        ("Session with", info.session_with),
        ("Certificate until", time::rfc3339(info.certificate_expires_at).unwrap_or_default()),
    ];
    if let Some(raft) = info.raft {
        lines.push(("Raft ID", raft.raft_id.to_string()));
        lines.push(("Raft term", raft.term.to_string()));
        lines.push(("Raft applied", raft.last_applied.to_string()));
        lines.push(("Raft voters", raft.voters.to_string()));
        let leader = if raft.is_leader { "this node".to_owned() } else { raft.leader_address };
        lines.push(("Leader", if leader.is_empty() { "none known".to_owned() } else { leader }));
    }
    lines
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name}: {value}\n"))
        .collect()
}

const LOOP_COLUMNS: &[Column] = &[
    Column::new("Name", "NAME"),
    Column::new("Runs", "RUNS"),
    Column::new("Changes", "CHANGES"),
    Column::new("Refused", "REFUSED"),
    Column::new("Queued", "QUEUED"),
    Column::new("LastRun", "LAST RUN"),
];

async fn loops(context: &Context, args: &ListArgs) -> anyhow::Result<()> {
    let answer = context
        .call(v1::ListLoopsRequest {}, async |request| context.swarm().list_loops(request).await)
        .await?;
    let now = time::now();
    let mut list = List::new(LOOP_COLUMNS);
    for status in answer.loops {
        let last = if status.last_run == 0 { "never".to_owned() } else { time::ago(status.last_run, now) };
        let cells = vec![
            status.name.clone(),
            status.runs.to_string(),
            status.changes.to_string(),
            status.refused.to_string(),
            status.queued.to_string(),
            last,
        ];
        list.push(status.name.clone(), cells, &json::Loop::from(status));
    }
    list.print(args)
}
