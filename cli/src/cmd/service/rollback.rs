//! `coracle service rollback`

use coracle_proto::status::Reason;
use coracle_proto::v1;

use super::flags::WaitFlags;
use super::{get, name_of, write};
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
    let mut service = get(context, reference).await?.service.unwrap_or_default();
    let (id, name) = (service.id.clone(), name_of(&service));
    let mut attempts = 1..write::ATTEMPTS;
    let goal = loop {
        let request = v1::RollbackServiceRequest {
            service: id.clone(),
            version: service.version,
            idempotency_key: idempotency_key(),
        };
        let written = context.call(request, async |request| context.services().rollback(request).await).await;
        match written.map_err(|error| write::changed_meanwhile(error, &name)) {
            Ok(written) => break Goal::rolled_back(&service, written.service.as_ref()),
            // It is asked for just when an update goes wrong, which the managers take notes of.
            Err(error) if error.reason == Reason::Stale && attempts.next().is_some() => {
                service = write::read_again(context, &service, error).await?;
            }
            Err(error) => return Err(error.into()),
        }
    };
    output::line(reference)?;
    progress::converge(context, &id, &name, wait, goal).await
}
