//! `coracle volume inspect`

use std::cell::RefCell;
use std::time::Duration;

use coracle_proto::v1;

use super::{tell_failures, tell_silent};
use crate::cmd::each;
use crate::cmd::inspect::{Found, InspectArgs};
use crate::context::Context;
use crate::output::format::Format;
use crate::output::json;

/// How long nodes may measure.
const DEADLINE: Duration = Duration::from_secs(40);

/// Flags of `volume inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// json, or a template such as '{{.Mountpoint}}'
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<Format>,
    /// Only on this node: id, host name or unique prefix of an id (may be repeated)
    #[arg(long, value_name = "NODE")]
    node: Vec<String>,
    /// Names of volumes
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Prints what was found, on every node that has one.
///
/// # Errors
/// What went wrong.
pub(crate) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let (found, silent) = (Found::default(), RefCell::new(Vec::new()));
    let outcome = each(&args.names, async |name| {
        let request = v1::InspectVolumeRequest { name: name.to_owned(), nodes: args.node.clone() };
        let answer =
            context.once(DEADLINE, request, async |request| context.volumes().inspect(request).await).await?;
        for volume in answer.volumes {
            found.push(&json::VolumeDetail::from(volume))?;
        }
        silent.borrow_mut().extend(answer.silent);
        tell_failures(answer.failures)
    })
    .await;
    found.print(&InspectArgs { format: args.format, quiet: false })?;
    tell_silent(&silent.borrow());
    outcome
}
