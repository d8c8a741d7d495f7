//! `coracle service rollback`

use coracle_proto::v1;

use super::flags::WaitFlags;
use super::{get, name_of, update};
use crate::context::{Context, idempotency_key};
use crate::output;
use crate::progress::{self, Goal};

/// Flags of `service rollback`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    wait: WaitFlags,
    /// Id, name or unique prefix of an id
    #[arg(value_name = "SERVICE")]
    service: String,
}

/// Goes back, prints the service's name, and waits until it has converged.
///
/// # Errors
/// What went wrong.
pub(crate) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    roll_back(context, &args.service, &args.wait).await
}

/// The same for `service update --rollback`.
///
/// # Errors
/// What went wrong.
pub(crate) async fn roll_back(context: &Context, reference: &str, wait: &WaitFlags) -> anyhow::Result<()> {
    let service = get(context, reference).await?.service.unwrap_or_default();
    let (id, name) = (service.id.clone(), name_of(&service));
    let request = v1::RollbackServiceRequest {
        service: id.clone(),
        version: service.version,
        idempotency_key: idempotency_key(),
    };
    context
        .call(request, async |request| context.services().rollback(request).await)
        .await
        .map_err(|error| update::changed_meanwhile(error, &name))?;
    output::line(reference)?;
    progress::converge(context, &id, &name, wait, Goal::Rollback).await
}
