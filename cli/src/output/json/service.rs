//! Services.

use std::collections::BTreeMap;

use coracle_proto::v1;
use serde::Serialize;

use super::spec::Spec;
use crate::output::{time, words};

/// `service inspect`.
#[derive(Debug, Serialize)]
pub(crate) struct Service {
    id: String,
    version: u64,
    spec_version: u64,
    created_at: Option<String>,
    updated_at: Option<String>,
    spec: Spec,
    previous_spec: Option<Spec>,
    update: Option<Update>,
    job: Option<Job>,
    rebalance: Option<Rebalance>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tasks: Option<Counts>,
}

/// One line of `service ls`.
#[derive(Debug, Serialize)]
pub(crate) struct ServiceRow {
    id: String,
    name: String,
    mode: &'static str,
    replicas: Counts,
    image: String,
    labels: BTreeMap<String, String>,
}

/// Tasks that run, and tasks that are wanted; of a job also those that completed, and those that have to.
#[derive(Debug, Serialize)]
pub(crate) struct Counts {
    running: u64,
    desired: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Update {
    state: &'static str,
    started_at: Option<String>,
    completed_at: Option<String>,
    message: String,
    slots: u64,
    failed: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Rebalance {
    state: &'static str,
    automatic: bool,
    started_at: Option<String>,
    ended_at: Option<String>,
    message: String,
    moves: u64,
    max_moves: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Job {
    run: u64,
    started_at: Option<String>,
    ended_at: Option<String>,
    /// Those that go on, or whose tasks are kept; the oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    earlier: Vec<EarlierRun>,
}

#[derive(Debug, Serialize)]
struct EarlierRun {
    run: u64,
    started_at: Option<String>,
    ended_at: Option<String>,
}

impl From<v1::EarlierRun> for EarlierRun {
    fn from(run: v1::EarlierRun) -> Self {
        Self {
            run: run.run,
            started_at: time::rfc3339(run.started_at),
            ended_at: run.ended_at.and_then(time::rfc3339),
        }
    }
}

impl Counts {
    fn new(counts: v1::ServiceCounts, is_job: bool) -> Self {
        Self {
            running: counts.running,
            desired: counts.desired,
            completed: is_job.then_some(counts.completed),
            total: is_job.then_some(counts.total),
        }
    }
}

impl Service {
    /// The service, with its tasks counted where that is known.
    pub(crate) fn new(service: v1::Service, counts: Option<v1::ServiceCounts>) -> Self {
        let is_job = words::is_job(service.spec.as_ref());
        Self {
            id: service.id,
            version: service.version,
            spec_version: service.spec_version,
            created_at: time::rfc3339(service.created_at),
            updated_at: time::rfc3339(service.updated_at),
            spec: service.spec.unwrap_or_default().into(),
            previous_spec: service.previous_spec.map(Into::into),
            update: service.update.map(|update| Update {
                state: words::update_state(update.state),
                started_at: time::rfc3339(update.started_at),
                completed_at: update.completed_at.and_then(time::rfc3339),
                message: update.message,
                slots: update.slots,
                failed: update.failed,
            }),
            job: service.job.map(|job| Job {
                run: job.run,
                started_at: time::rfc3339(job.started_at),
                ended_at: job.ended_at.and_then(time::rfc3339),
                earlier: job.earlier.into_iter().map(Into::into).collect(),
            }),
            rebalance: service.rebalance.map(|rebalance| Rebalance {
                state: words::rebalance_state(rebalance.state),
                automatic: rebalance.automatic,
                started_at: time::rfc3339(rebalance.started_at),
                ended_at: rebalance.ended_at.and_then(time::rfc3339),
                message: rebalance.message,
                moves: rebalance.moves,
                max_moves: rebalance.limit,
            }),
            tasks: counts.map(|counts| Counts::new(counts, is_job)),
        }
    }
}

impl ServiceRow {
    /// The line for a service.
    pub(crate) fn new(service: &v1::Service, counts: v1::ServiceCounts) -> Self {
        let spec = service.spec.clone().unwrap_or_default();
        let is_job = words::is_job(Some(&spec));
        let container = spec.task.and_then(|task| task.container).unwrap_or_default();
        Self {
            id: service.id.clone(),
            name: spec.name,
            mode: words::mode(spec.mode.as_ref()),
            replicas: Counts::new(counts, is_job),
            image: container.image.unwrap_or_default().reference,
            labels: spec.labels.into_iter().collect(),
        }
    }
}
