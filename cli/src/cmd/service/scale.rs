//! `coracle service scale`

use std::str::FromStr;

use coracle_proto::status::{ApiError, Reason};

use super::flags::WaitFlags;
use super::{get, name_of, update, write};
use crate::cmd::each_of;
use crate::context::Context;
use crate::opt::{FlagError, count};
use crate::output;
use crate::progress::{self, Goal};

/// How often a service that others change meanwhile is read again: a number of tasks is right on any version.
const ATTEMPTS: u32 = 5;

/// Flags of `service scale`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    wait: WaitFlags,
    /// Services with the tasks wanted
    #[arg(required = true, value_name = "SERVICE=NUMBER")]
    services: Vec<Wanted>,
}

/// A service and its number of tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    service: String,
    replicas: u64,
}

impl FromStr for Wanted {
    type Err = FlagError;

    fn from_str(text: &str) -> Result<Self, FlagError> {
        match text.rsplit_once('=') {
            Some((service, number)) if !service.is_empty() => {
                Ok(Self { service: service.to_owned(), replicas: count::replicas(number)? })
            }
            _ => Err(FlagError::new("scale", text, "use SERVICE=NUMBER, such as web=3")),
        }
    }
}

/// Changes all of them, then waits for each that was changed.
///
/// # Errors
/// What went wrong, with the first exit status, after the others were tried and waited for.
pub(crate) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let scaled = std::cell::RefCell::new(Vec::new());
    let written = each_of(&args.services, async |wanted: &Wanted| {
        let found = scale(context, wanted).await?;
        output::line(&format!("{} scaled to {}", wanted.service, wanted.replicas))?;
        scaled.borrow_mut().push(found);
        Ok(())
    })
    .await;
    let waited = each_of(&scaled.take(), async |(id, name, goal): &(String, String, Goal)| {
        progress::converge(context, id, name, &args.wait, *goal).await
    })
    .await;
    written.and(waited)
}

async fn scale(context: &Context, wanted: &Wanted) -> anyhow::Result<(String, String, Goal)> {
    let mut attempt = 1;
    loop {
        let before = get(context, &wanted.service).await?.service.unwrap_or_default();
        let (id, name) = (before.id.clone(), name_of(&before));
        let mut spec = before.spec.clone().unwrap_or_default();
        spec.mode = Some(update::with_replicas(spec.mode.as_ref(), wanted.replicas)?);
        match write::write(context, &id, &name, before.version, spec).await {
            Err(ApiError { reason: Reason::Stale, .. }) if attempt < ATTEMPTS => attempt += 1,
            outcome => {
                let goal = Goal::updated(&before, outcome?.service.as_ref());
                return Ok((id, name, goal));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_and_a_number_are_read() {
        assert_eq!("web=3".parse(), Ok(Wanted { service: "web".to_owned(), replicas: 3 }));
        for text in ["web", "=3", "web=", "web=-1", "web=x"] {
            assert!(text.parse::<Wanted>().is_err(), "{text}");
        }
    }
}
