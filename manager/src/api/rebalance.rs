//! What an operator may ask of a rebalance.

use coracle_manager_core::Change;
use coracle_manager_core::orchestrate;
use coracle_manager_core::schedule::relocate::Relocation;
use coracle_manager_core::state::State;
use coracle_model::rebalance::{RebalanceProgress, RebalanceState};
use coracle_model::service::Service;
use coracle_model::time::Timestamp;
use coracle_model::validate;
use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1;

use super::resolve;

/// The write that begins a rebalance, or gives one that goes on another limit: zero ends it after the present move.
pub(super) fn begin(service: &Service, limit: Option<u64>, now: Timestamp) -> Result<Change, ApiError> {
    let present = service.rebalance.as_deref().filter(|progress| progress.state == RebalanceState::Moving);
    let progress = match (present, limit) {
        (None, Some(0)) => return Err(refused(service, "it is not being rebalanced")),
        (Some(present), Some(0)) => RebalanceProgress { limit: Some(present.moves), ..present.clone() },
        (present, limit) => {
            check(service)?;
            let begun = RebalanceProgress::begun(now, false, limit);
            // The move that is under way comes to its end first.
            let moving = present.and_then(|present| present.moving);
            let since = present.map_or(now, |present| present.since);
            RebalanceProgress { moving, since, ..begun }
        }
    };
    Ok(Change::SetRebalance { service: service.id, expected: service.version, progress })
}

/// What a rebalance would move.
pub(super) fn preview(
    view: &State,
    request: &v1::RebalanceServiceRequest,
) -> Result<v1::RebalanceServiceResponse, ApiError> {
    let service = resolve::service(view, &request.service)?;
    check(&service)?;
    let hostname = |node| view.node(node).map(|node| node.description.hostname.clone()).unwrap_or_default();
    let planned = |next: &Relocation| v1::PlannedMove {
        slot: view.task(next.task).map(|task| (&task.slot).into()),
        task: next.task.to_string(),
        from_hostname: hostname(next.from),
        to_hostname: hostname(next.to),
    };
    let moves = orchestrate::preview(view, service.id, request.limit).iter().map(planned).collect();
    Ok(v1::RebalanceServiceResponse { service: Some((&*service).into()), moves, version: view.index() })
}

fn check(service: &Service) -> Result<(), ApiError> {
    validate::rebalanceable(&service.spec).map_err(|reason| refused(service, reason))?;
    match service.update.as_ref().filter(|update| update.state.is_active() || update.state.is_paused()) {
        Some(update) => {
            let reason = format!("its update is {}: nothing is moved meanwhile", update.state);
            Err(refused(service, &reason)
                .with_hint("wait until it has ended, or go back with `coracle service rollback`"))
        }
        None => Ok(()),
    }
}

fn refused(service: &Service, reason: &str) -> ApiError {
    ApiError::new(Reason::Forbidden, format!("service {} cannot be rebalanced: {reason}", service.spec.name))
}

#[cfg(test)]
mod tests {
    use coracle_model::rollout::UpdateState;
    use coracle_model::service::{ServiceMode, UpdateProgress};

    use super::super::world::{service, told};
    use super::*;

    #[test]
    fn every_refusal_names_the_service_and_why() {
        let mut web = service(1, "web");
        let begun = |service: &Service, limit| told(begin(service, limit, Timestamp::EPOCH));
        assert_eq!(begun(&web, None), "fine");
        assert_eq!(begun(&web, Some(0)), "service web cannot be rebalanced: it is not being rebalanced");
        web.update = Some(UpdateProgress::begun(UpdateState::Paused, Timestamp::EPOCH, 1, ""));
        assert_eq!(
            begun(&web, None),
            "service web cannot be rebalanced: its update is paused: nothing is moved meanwhile\nhint: wait until it has ended, or \
             go back with `coracle service rollback`"
        );
        web.spec.mode = ServiceMode::Global;
        assert!(begun(&web, None).starts_with("service web cannot be rebalanced: "));
    }
}
