//! Writing a service over the version that was read, also while the managers note how far it is.

use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1;

use super::get;
use crate::context::{Context, idempotency_key};

/// How often a write is tried when the managers note how far a service is while it is read and written.
pub(super) const ATTEMPTS: u32 = 5;

/// The service as it is now, for another try after a refusal: if nobody wanted something else of it since it was read.
///
/// # Errors
/// The refusal, if somebody did.
pub(super) async fn read_again(
    context: &Context,
    before: &v1::Service,
    refusal: ApiError,
) -> anyhow::Result<v1::Service> {
    let now = get(context, &before.id).await?.service.unwrap_or_default();
    if only_went_on(before, &now) { Ok(now) } else { Err(refusal.into()) }
}

/// Whether only the managers changed a service, which raises its version as well.
fn only_went_on(before: &v1::Service, now: &v1::Service) -> bool {
    before.updated_at == now.updated_at
        && before.spec == now.spec
        && before.previous_spec == now.previous_spec
}

/// Writes a specification over the version that was read.
///
/// # Errors
/// What the managers answer; a service that was changed meanwhile is told as that.
pub(super) async fn write(
    context: &Context,
    id: &str,
    name: &str,
    version: u64,
    spec: v1::ServiceSpec,
) -> Result<v1::UpdateServiceResponse, ApiError> {
    let request = v1::UpdateServiceRequest {
        service: id.to_owned(),
        version,
        spec: Some(spec),
        idempotency_key: idempotency_key(),
    };
    let outcome = context.call(request, async |request| context.services().update(request).await).await;
    outcome.map_err(|error| changed_meanwhile(error, name))
}

/// The refusal of a write over a version that is no longer the present one, in words for people.
pub(super) fn changed_meanwhile(error: ApiError, name: &str) -> ApiError {
    match error.reason {
        Reason::Stale => ApiError::new(Reason::Stale, format!("service {name:?} was changed meanwhile"))
            .with_hint("run the command again: it reads the service anew"),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_managers_note_is_no_other_wish() {
        let read = v1::Service {
            version: 7,
            updated_at: 1,
            spec: Some(v1::ServiceSpec::default()),
            ..Default::default()
        };
        let noted = v1::Service { version: 9, update: Some(v1::UpdateProgress::default()), ..read.clone() };
        assert!(only_went_on(&read, &noted));
        for changed in [
            v1::Service { updated_at: 2, ..noted.clone() },
            v1::Service { spec: None, ..noted.clone() },
            v1::Service { previous_spec: Some(v1::ServiceSpec::default()), ..noted },
        ] {
            assert!(!only_went_on(&read, &changed), "{changed:?}");
        }
    }
}
