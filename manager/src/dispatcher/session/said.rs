//! What an agent says, checked and cut before anybody uses it: it may be anybody's.

use std::collections::BTreeSet;
use std::time::Duration;

use coracle_model::digest::Digest;
use coracle_model::generic;
use coracle_model::health::{OUTPUT_KEPT, RESULTS_KEPT};
use coracle_model::id::TaskId;
use coracle_model::node::NodeDescription;
use coracle_model::task::TaskStatus;
use coracle_model::validate;
use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1::{self, agent_message};
use coracle_rpc::connect::parse_address;
use tonic::Streaming;

/// Tasks that one node can hold; more in one message are refused.
const TASKS_OF_ONE_NODE: usize = 10_000;
/// Bytes of a task's message or error that are kept; a thousand of them fit into one entry of the log.
const STATUS_TEXT: usize = 500;
/// How long a new session may wait for its agent's first message.
const HELLO: Duration = Duration::from_secs(10);
/// Bytes of a node's labels: they are replicated whenever its agent changes them.
const LABELS: usize = 32 << 10;
/// Bytes of a node's host name.
const HOST_NAME: usize = 255;

/// The first message of a session; nothing if the agent goes, or says nothing for too long.
///
/// # Errors
/// If it is another.
pub(super) async fn first(inbound: &mut Streaming<v1::AgentMessage>) -> Result<Option<v1::Hello>, ApiError> {
    let Ok(message) = tokio::time::timeout(HELLO, inbound.message()).await else { return Ok(None) };
    match message {
        Ok(Some(v1::AgentMessage { message: Some(agent_message::Message::Hello(hello)) })) => Ok(Some(hello)),
        Ok(Some(_)) => Err(protocol("a session begins with hello")),
        Ok(None) | Err(_) => Ok(None),
    }
}

pub(super) fn protocol(problem: &str) -> ApiError {
    ApiError::new(Reason::Invalid, problem.to_owned())
}

/// How tasks fare.
///
/// # Errors
/// If they are too many, or cannot be read.
pub(super) fn reports(tasks: Vec<v1::TaskReport>) -> Result<Vec<(TaskId, TaskStatus)>, ApiError> {
    if tasks.len() > TASKS_OF_ONE_NODE {
        return Err(ApiError::new(Reason::TooLarge, format!("a report of {} tasks", tasks.len())));
    }
    let report = |report: v1::TaskReport| {
        let task = report.task.parse().map_err(|error| protocol(&format!("report: {error}")))?;
        let mut status = TaskStatus::try_from(report.status.unwrap_or_default())?;
        cut(&mut status);
        Ok((task, status))
    };
    tasks.into_iter().map(report).collect()
}

/// Checks what a node says of itself before it is kept and passed on.
///
/// # Errors
/// If its address, labels or host name cannot be used.
pub fn check_description(description: &NodeDescription, address: &str) -> Result<(), ApiError> {
    parse_address(address).map_err(|error| protocol(&format!("advertise-addr: {error}")))?;
    validate::labels("engine-label", &description.labels)?;
    let labels: usize = description.labels.iter().map(|(key, value)| key.len() + value.len()).sum();
    if labels > LABELS {
        return Err(protocol(&format!(
            "engine-label: the labels of a node are {labels} bytes, {LABELS} at most"
        )));
    }
    generic::check(&description.generic).map_err(|error| protocol(&error.to_string()))?;
    if description.hostname.len() > HOST_NAME || description.engine_version.len() > HOST_NAME {
        return Err(protocol("the node's host name or version is too long"));
    }
    Ok(())
}

/// Cuts what is too much to be kept for every task.
fn cut(status: &mut TaskStatus) {
    clip(&mut status.message, STATUS_TEXT);
    clip(&mut status.error, STATUS_TEXT);
    if let Some(health) = &mut status.health {
        health.results.drain(..health.results.len().saturating_sub(RESULTS_KEPT));
        health.results.iter_mut().for_each(|result| clip(&mut result.output, OUTPUT_KEPT));
    }
}

fn clip(text: &mut String, limit: usize) {
    if text.len() > limit {
        let end = (0..=limit).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
}

/// Manifests of the images that a node holds.
///
/// # Errors
/// If one is no digest.
pub(super) fn held_images(images: v1::HeldImages) -> Result<BTreeSet<Digest>, ApiError> {
    let parse = |text: String| text.parse().map_err(|error| protocol(&format!("held images: {error}")));
    images.digests.into_iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use coracle_model::health::HealthResult;
    use coracle_model::task::{Health, TaskState};

    use super::*;

    #[test]
    fn nobody_makes_the_managers_keep_more_of_a_task_than_they_want() {
        let long = || "x".repeat(1 << 20);
        let result = |number: u64| HealthResult {
            code: i32::try_from(number).ok(),
            output: long(),
            ..HealthResult::default()
        };
        let health = Health { results: (0..1000).map(result).collect(), ..Health::default() };
        let (message, error) = (long(), long());
        let status = TaskStatus {
            state: TaskState::Running,
            message,
            error,
            health: Some(health),
            ..TaskStatus::default()
        };
        let report =
            v1::TaskReport { task: TaskId::from_bits(1).to_string(), status: Some((&status).into()) };
        let (_, kept) = reports(vec![report]).unwrap().remove(0);
        let results = kept.health.unwrap().results;
        assert_eq!(
            results.iter().map(|result| result.code).collect::<Vec<_>>(),
            [995, 996, 997, 998, 999].map(Some)
        );
        let bytes = kept.message.len() + kept.error.len();
        let bytes = bytes + results.iter().map(|result| result.output.len()).sum::<usize>();
        assert!(bytes < 2 * STATUS_TEXT + RESULTS_KEPT * OUTPUT_KEPT + 100, "{bytes}");
    }
}
