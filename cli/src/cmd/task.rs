//! `coracle task …`, and the list of tasks that `service ps` and `node ps` share.

mod list;

pub(crate) use list::{PsArgs, print};

use clap::Subcommand;
use coracle_proto::status::ApiError;
use coracle_proto::v1;

use super::each;
use super::inspect::{Found, InspectArgs};
use crate::context::{ConnectionArgs, Context};
use crate::output::json;
use crate::output::template::docker;

/// Commands on tasks.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show everything about tasks
    #[command(after_help = "Example:\n  coracle task inspect 3k1c --format '{{.Status.Error}}'")]
    Inspect {
        /// Ids or unique prefixes of them
        #[arg(required = true, value_name = "TASK")]
        tasks: Vec<String>,
        #[command(flatten)]
        inspect: InspectArgs,
    },
}

/// Runs one of them.
///
/// # Errors
/// What went wrong.
pub(crate) async fn run(command: Command, connection: &ConnectionArgs) -> anyhow::Result<()> {
    let Command::Inspect { tasks, inspect } = command;
    let context = Context::connect(connection).await?;
    let found = Found::with(docker::TASK);
    let outcome = each(&tasks, async |task| {
        let request =
            v1::ListTasksRequest { tasks: vec![task.to_owned()], with_spec: true, ..Default::default() };
        let answer = context.call(request, async |request| context.tasks().list(request).await).await?;
        if answer.tasks.is_empty() {
            return Err(ApiError::not_found("task", task).into());
        }
        answer.tasks.into_iter().try_for_each(|item| found.push(&json::Task::from(item)))
    })
    .await;
    found.print(&inspect)?;
    outcome
}
