//! What nodes answered, for operators: with host names and the names of services.

use coracle_manager_core::state::State;
use coracle_model::id::TaskId;
use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1;

use crate::dispatcher::volumes::{Place, TransferError};

/// Bytes of a text of a node that are passed on.
const TEXT: usize = 2000;

/// A volume and where it is.
pub(super) fn of(place: &Place, volume: v1::Volume) -> v1::NodeVolume {
    let node = place.node.to_string();
    let volume = Some(v1::Volume { node: node.clone(), ..volume });
    v1::NodeVolume { node_id: node, node_hostname: place.hostname.clone(), volume }
}

/// What a node found out about a volume.
pub(super) fn inspected(state: &State, place: &Place, detail: v1::VolumeDetail) -> v1::InspectedVolume {
    let users = detail.tasks.iter().map(|task| user(state, task)).collect();
    let (node_id, node_hostname) = (place.node.to_string(), place.hostname.clone());
    v1::InspectedVolume { node_id, node_hostname, detail: Some(detail), users }
}

fn user(state: &State, task: &str) -> v1::VolumeUser {
    let known = task.parse().ok().and_then(|task: TaskId| state.task(task));
    let name = known.map(|task| {
        let service = state.service(task.service);
        let service =
            service.map_or_else(|| task.service.to_string(), |service| service.spec.name.to_string());
        format!("{service}.{}", task.slot)
    });
    v1::VolumeUser { task: task.to_owned(), name: name.unwrap_or_default() }
}

/// What a node refuses, with the names of the tasks that are in the way.
pub(super) fn refusal(state: &State, place: &Place, problem: v1::VolumeProblem) -> ApiError {
    let users: Vec<String> = problem.tasks.iter().map(|task| shown(&user(state, task))).collect();
    let mut error = ApiError::from(problem);
    clip(&mut error.message);
    if !users.is_empty() {
        error.message = format!("{}: {}", error.message, users.join(", "));
    }
    error.message = format!("node {}: {}", place.hostname, error.message);
    error
}

fn shown(user: &v1::VolumeUser) -> String {
    let id: String = user.task.chars().take(12).collect();
    if user.name.is_empty() { id } else { format!("{} ({id})", user.name) }
}

fn clip(text: &mut String) {
    if text.len() > TEXT {
        let end = (0..=TEXT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
}

/// The failure of one node beside the successes of others.
pub(super) fn failure(place: &Place, volume: &str, error: ApiError) -> v1::VolumeFailure {
    v1::VolumeFailure {
        node_id: place.node.to_string(),
        node_hostname: place.hostname.clone(),
        volume: volume.to_owned(),
        reason: error.reason.as_str().to_owned(),
        message: error.message,
        hint: error.hint.unwrap_or_default(),
    }
}

/// Why an archive did not come over, for the operator.
pub(super) fn transfer_error(state: &State, place: &Place, error: TransferError) -> ApiError {
    match error {
        TransferError::Refused(problem) => refusal(state, place, problem),
        TransferError::Failed(error) => error,
    }
}

/// An answer to another question.
pub(super) fn unexpected() -> ApiError {
    ApiError::new(Reason::Internal, "the node answered something else than was asked")
        .with_hint("its version may be another: see `coracle node ls`")
}
