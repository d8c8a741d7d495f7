//! `coracle service …`

mod create;
mod flags;
mod inspect;
mod lists;
mod logs;
mod ls;
mod merge;
mod pretty;
mod rebalance;
mod rollback;
mod scale;
#[cfg(test)]
mod tests;
mod update;
mod write;

pub(crate) use flags::WaitFlags;

use clap::Subcommand;
use coracle_proto::v1;

use super::{each, task};
use crate::context::{ConnectionArgs, Context, idempotency_key};
use crate::output;

/// Commands on services.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a service
    #[command(
        override_usage = "coracle service create [OPTIONS] IMAGE [ARGS...]",
        after_help = "Examples:
  coracle service create --name web --replicas 3 --mount type=bind,src=/data,dst=/data,ro web:1
  coracle service create --mode global --network host agent:2 --verbose
  coracle service create --mode replicated-job --replicas 10 --max-concurrent 2 import:1
  coracle service create --hostname '{{.Service.Name}}-{{.Task.Slot}}' --env NODE={{.Node.Hostname}} web:1

Placeholders in --hostname, values of --env, and sources, targets and volume labels of --mount are filled in for each
task: {{.Service.ID}}, {{.Service.Name}}, {{index .Service.Labels \"KEY\"}}, {{.Node.ID}}, {{.Node.Hostname}},
{{.Node.Platform.Architecture}}, {{.Node.Platform.OS}}, {{.Task.ID}}, {{.Task.Name}}, {{.Task.Slot}}. Two braces that
are meant as they are: {{\"{{\"}}"
    )]
    Create(Box<create::Args>),
    /// List services
    #[command(
        visible_alias = "list",
        after_help = "Example:\n  coracle service ls --format '{{.Name}} {{.Replicas}}'"
    )]
    Ls(ls::Args),
    /// List the tasks of services
    #[command(after_help = "Example:\n  coracle service ps web --no-trunc --filter desired-state=running")]
    Ps {
        /// Ids, names or unique prefixes of ids
        #[arg(required = true, value_name = "SERVICE")]
        services: Vec<String>,
        #[command(flatten)]
        ps: task::PsArgs,
    },
    /// Show everything about services
    #[command(
        after_help = "Example:\n  coracle service inspect web --format '{{.Spec.Task.Container.Image}}'"
    )]
    Inspect(inspect::Args),
    /// Change how many tasks replicated services have
    #[command(after_help = "Example:\n  coracle service scale web=5 worker=2")]
    Scale(scale::Args),
    /// Change a service
    #[command(after_help = "Examples:
  coracle service update --image web:2 web
  coracle service update --update-order start-first --update-failure-action rollback --image web:3 web
  coracle service update --rollback web
  coracle service update --env-add LEVEL=debug --env-rm OLD --limit-memory 256m web")]
    Update(Box<update::Args>),
    /// Put the specification before a service's last change in force again
    #[command(after_help = "Example:\n  coracle service rollback web")]
    Rollback(rollback::Args),
    /// Move tasks to nodes that suit them better, one at a time
    #[command(after_help = "Examples:
  coracle service rebalance --dry-run web
  coracle service rebalance --max-moves 2 web worker")]
    Rebalance(rebalance::Args),
    /// Remove services and their tasks
    #[command(visible_alias = "remove", after_help = "Example:\n  coracle service rm web")]
    Rm {
        /// Ids, names or unique prefixes of ids
        #[arg(required = true, value_name = "SERVICE")]
        services: Vec<String>,
    },
    /// Show the output of a service or a task
    #[command(after_help = "Example:\n  coracle service logs --follow --tail 20 web")]
    Logs(logs::Args),
}

/// Runs one of them.
///
/// # Errors
/// What went wrong.
pub(crate) async fn run(command: Command, connection: &ConnectionArgs) -> anyhow::Result<()> {
    let context = Context::connect(connection).await?;
    match command {
        Command::Create(args) => create::run(&context, &args).await,
        Command::Ls(args) => ls::run(&context, args).await,
        Command::Ps { services, ps } => {
            let request = v1::ListTasksRequest { services, ..Default::default() };
            task::print(&context, request, &ps).await
        }
        Command::Inspect(args) => inspect::run(&context, args).await,
        Command::Scale(args) => scale::run(&context, args).await,
        Command::Update(args) => update::run(&context, *args).await,
        Command::Rebalance(args) => rebalance::run(&context, args).await,
        Command::Rollback(args) => rollback::run(&context, args).await,
        Command::Rm { services } => {
            each(&services, async |service| {
                let request = v1::RemoveServiceRequest {
                    service: service.to_owned(),
                    idempotency_key: idempotency_key(),
                };
                context.call(request, async |request| context.services().remove(request).await).await?;
                Ok(output::line(service)?)
            })
            .await
        }
        Command::Logs(args) => logs::run(&context, args).await,
    }
}

async fn get(context: &Context, service: &str) -> anyhow::Result<v1::GetServiceResponse> {
    let request = v1::GetServiceRequest { service: service.to_owned() };
    Ok(context.call(request, async |request| context.services().get(request).await).await?)
}

fn name_of(service: &v1::Service) -> String {
    service
        .spec
        .as_ref()
        .map(|spec| spec.name.clone())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| service.id.clone())
}
