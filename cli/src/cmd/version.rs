//! `coracle version`.

use coracle_proto::v1;
use serde_json::to_value;

use crate::context::{ConnectionArgs, Context};
use crate::output::format::Format;
use crate::output::{self, json};

/// Flags of `version`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  coracle version --format '{{.Server}}'")]
pub(crate) struct Args {
    /// json, or a template such as '{{.Client}}'
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<Format>,
}

/// Prints the version of this program, and the daemon's where one answers.
///
/// # Errors
/// When the output cannot be written.
pub(crate) async fn run(args: Args, connection: &ConnectionArgs) -> anyhow::Result<()> {
    let version =
        json::Version { client: env!("CARGO_PKG_VERSION").to_owned(), server: server(connection).await };
    match args.format {
        Some(Format::Lines(template)) => output::line(&template.render(&to_value(&version)?)?)?,
        Some(Format::Json) => output::write_json(&version)?,
        _ => {
            output::line(&format!("Client: {}", version.client))?;
            output::line(&format!("Server: {}", version.server.as_deref().unwrap_or("(no answer)")))?;
        }
    }
    Ok(())
}

/// A daemon that does not answer is not a failure of this command.
async fn server(connection: &ConnectionArgs) -> Option<String> {
    let context = Context::connect(connection).await.ok()?;
    let info = context.call(v1::InfoRequest {}, async |request| context.local().info(request).await).await;
    info.ok().map(|info| info.version)
}
