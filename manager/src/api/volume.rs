//! Volumes: what nodes tell of theirs, and what operators want done with them on the nodes.

mod answer;
mod places;
mod transfer;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use coracle_manager_core::state::View;
use coracle_model::id::NodeId;
use coracle_model::validate;
use coracle_model::volume::LOCAL_DRIVER;
use coracle_proto::convert::volume::name as volume_name;
use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1;
use coracle_proto::v1::volume_answer::Result as Answer;
use coracle_proto::v1::volume_request::Operation;
use coracle_proto::v1::volumes_server::Volumes;
use coracle_rpc::caller::PassedOnBy;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use tonic::{Request, Response, Status, Streaming};
use tracing::info;

use super::actor;
use crate::dispatcher::volumes::Place;
use crate::dispatcher::{Dispatcher, VolumeBroker};
use crate::store::Store;

use answer::{failure, refusal, unexpected};

/// How long making or looking at a volume may take.
const QUICK: Duration = Duration::from_secs(25);
/// How long removing volumes may take: there may be much in them.
const SLOW: Duration = Duration::from_secs(600);
/// Nodes that are asked at a time.
const AT_A_TIME: usize = 32;
/// Bytes of a volume's labels: they go to its node and back in one message.
const LABELS: usize = 64 << 10;
/// Nodes that one request may name.
const NODES: usize = 1000;

/// The API over volumes.
#[derive(Debug, Clone)]
pub struct VolumesApi {
    store: Store,
    dispatcher: Arc<Dispatcher>,
    own: NodeId,
}

/// What a request sees: the nodes, and who has told what.
struct Seen {
    view: View,
    broker: Arc<VolumeBroker>,
    /// The node whose socket is used.
    asked: NodeId,
}

impl VolumesApi {
    /// The API over this state, on this node.
    #[must_use]
    pub const fn new(store: Store, dispatcher: Arc<Dispatcher>, own: NodeId) -> Self {
        Self { store, dispatcher, own }
    }

    async fn see<T>(&self, request: &Request<T>) -> Result<Seen, ApiError> {
        let asked = request.extensions().get::<PassedOnBy>().map_or(self.own, |by| by.0);
        // The barrier also makes sure that this manager still leads, so that what agents told it is not old.
        let view = self.store.barrier().await?;
        let term = self.dispatcher.leading().await?;
        Ok(Seen { view, broker: term.volumes, asked })
    }
}

impl Seen {
    /// Asks nodes one beside the other. Each gives what `read` makes of its answer, or a failure.
    async fn ask<T>(
        &self,
        volume: &str,
        places: Vec<Place>,
        operation: impl Fn() -> Operation,
        limit: Duration,
        read: impl Fn(&Place, Answer) -> Option<T>,
    ) -> (Vec<T>, Vec<v1::VolumeFailure>) {
        let asked = places.into_iter().map(|place| {
            let operation = operation();
            async move {
                let answer = self.broker.ask(&place, operation, limit).await;
                (place, answer)
            }
        });
        let mut answers = stream::iter(asked).buffered(AT_A_TIME);
        let (mut done, mut failures) = (Vec::new(), Vec::new());
        while let Some((place, answer)) = answers.next().await {
            let result = match answer {
                Ok(Answer::Problem(problem)) => Err(refusal(&self.view, &place, problem)),
                Ok(answer) => read(&place, answer).ok_or_else(unexpected),
                Err(error) => Err(error),
            };
            match result {
                Ok(result) => done.push(result),
                Err(error) => failures.push(failure(&place, volume, error)),
            }
        }
        (done, failures)
    }
}

fn named(text: &str) -> Result<String, ApiError> {
    volume_name(text.to_owned()).map_err(ApiError::from)
}

fn labels(labels: std::collections::HashMap<String, String>) -> Result<BTreeMap<String, String>, ApiError> {
    let labels: BTreeMap<String, String> = labels.into_iter().collect();
    validate::labels("label", &labels)?;
    let bytes: usize = labels.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > LABELS {
        let message = format!("label: the labels of a volume are {bytes} bytes, {LABELS} at most");
        return Err(ApiError::new(Reason::TooLarge, message));
    }
    Ok(labels)
}

fn check_driver(driver: &str) -> Result<(), ApiError> {
    if driver.is_empty() || driver == LOCAL_DRIVER {
        return Ok(());
    }
    let message = format!("driver: invalid value {driver:?}: {LOCAL_DRIVER} is the only one");
    let hint = "other storage can be mounted on the nodes, and given to tasks with a mount of type=bind";
    Err(ApiError::new(Reason::Invalid, message).with_hint(hint))
}

#[tonic::async_trait]
impl Volumes for VolumesApi {
    type BackupStream = BoxStream<'static, Result<v1::BackupVolumeResponse, Status>>;

    async fn create(
        &self,
        request: Request<v1::CreateVolumeRequest>,
    ) -> Result<Response<v1::CreateVolumeResponse>, Status> {
        let (actor, seen) = (actor(&request), self.see(&request).await?);
        let request = request.into_inner();
        check_driver(&request.driver)?;
        let name = if request.name.is_empty() { String::new() } else { named(&request.name)? };
        let labels = labels(request.labels)?;
        let references = if request.nodes.is_empty() { vec!["self".to_owned()] } else { request.nodes };
        let places = seen.named(&references)?;
        info!(%actor, volume = name, nodes = %places::list(&places), "volume create");
        let operation = || {
            let labels = labels.clone().into_iter().collect();
            Operation::Create(v1::CreateVolume { name: name.clone(), labels })
        };
        let created = |place: &Place, answer| match answer {
            Answer::Created(v1::VolumeCreated { volume: Some(volume), existed }) => {
                Some(v1::CreatedVolume { volume: Some(answer::of(place, volume)), existed })
            }
            _ => None,
        };
        let (volumes, failures) = seen.ask(&name, places, operation, QUICK, created).await;
        Ok(Response::new(v1::CreateVolumeResponse { volumes, failures }))
    }

    async fn list(
        &self,
        request: Request<v1::ListVolumesRequest>,
    ) -> Result<Response<v1::ListVolumesResponse>, Status> {
        let seen = self.see(&request).await?;
        let mut volumes = Vec::new();
        for place in seen.places() {
            let told = seen.broker.volumes(place.node).unwrap_or_default().0;
            volumes.extend(told.iter().map(|volume| answer::of(&place, volume.into())));
        }
        let (silent, index) = (seen.silent(), seen.view.index());
        Ok(Response::new(v1::ListVolumesResponse { volumes, silent, index }))
    }

    async fn inspect(
        &self,
        request: Request<v1::InspectVolumeRequest>,
    ) -> Result<Response<v1::InspectVolumeResponse>, Status> {
        let seen = self.see(&request).await?;
        let request = request.into_inner();
        let name = named(&request.name)?;
        let everywhere = request.nodes.is_empty();
        let places = if everywhere { seen.holders(&name) } else { seen.named(&request.nodes)? };
        if places.is_empty() {
            return Err(seen.nowhere(&name).into());
        }
        let operation = || Operation::Inspect(v1::InspectVolume { name: name.clone() });
        let inspected = |place: &Place, answer| match answer {
            Answer::Inspected(detail) => Some(answer::inspected(&seen.view, place, detail)),
            _ => None,
        };
        let (volumes, failures) = seen.ask(&name, places, operation, QUICK, inspected).await;
        let silent = if everywhere { seen.silent() } else { Vec::new() };
        Ok(Response::new(v1::InspectVolumeResponse { volumes, failures, silent }))
    }

    async fn remove(
        &self,
        request: Request<v1::RemoveVolumeRequest>,
    ) -> Result<Response<v1::RemoveVolumeResponse>, Status> {
        let (actor, seen) = (actor(&request), self.see(&request).await?);
        let request = request.into_inner();
        let name = named(&request.name)?;
        let silent = if request.nodes.is_empty() { seen.silent() } else { Vec::new() };
        let places = match (request.nodes.as_slice(), request.all_nodes) {
            ([], true) => seen.holders(&name),
            ([], false) => seen.only_holder(&name)?.into_iter().collect(),
            (_, true) => return Err(both_named_and_all().into()),
            (references, false) => seen.named(references)?,
        };
        if places.is_empty() && !request.force {
            return Err(seen.nowhere(&name).into());
        }
        info!(%actor, volume = name, nodes = %places::list(&places), "volume rm");
        let operation = || Operation::Remove(v1::RemoveVolume { name: name.clone() });
        let removed = |place: &Place, answer| match answer {
            Answer::Removed(_) => Some(v1::RemovedVolume {
                node_id: place.node.to_string(),
                node_hostname: place.hostname.clone(),
            }),
            _ => None,
        };
        let (removed, mut failures) = seen.ask(&name, places, operation, SLOW, removed).await;
        if request.force {
            failures.retain(|failure| failure.reason != Reason::NotFound.as_str());
        }
        Ok(Response::new(v1::RemoveVolumeResponse { removed, failures, silent }))
    }

    async fn prune(
        &self,
        request: Request<v1::PruneVolumesRequest>,
    ) -> Result<Response<v1::PruneVolumesResponse>, Status> {
        let (actor, seen) = (actor(&request), self.see(&request).await?);
        let v1::PruneVolumesRequest { nodes, all, labels } = request.into_inner();
        let everywhere = nodes.is_empty();
        let silent = if everywhere { seen.silent() } else { Vec::new() };
        let places = if everywhere { seen.heard() } else { seen.named(&nodes)? };
        info!(%actor, all, nodes = %places::list(&places), "volume prune");
        let operation = || Operation::Prune(v1::PruneVolumes { all, labels: labels.clone() });
        let pruned = |place: &Place, answer| match answer {
            Answer::Pruned(pruned) => Some((place.clone(), pruned)),
            _ => None,
        };
        let (pruned, mut failures) = seen.ask("", places, operation, SLOW, pruned).await;
        let mut nodes = Vec::new();
        for (place, pruned) in pruned {
            // What was removed is told also where it went wrong after that.
            let problem = pruned.problem.map(|problem| refusal(&seen.view, &place, problem));
            failures.extend(problem.map(|error| failure(&place, "", error)));
            nodes.push(v1::PrunedNode {
                node_id: place.node.to_string(),
                node_hostname: place.hostname,
                volumes: pruned.names,
                freed: pruned.freed,
            });
        }
        Ok(Response::new(v1::PruneVolumesResponse { nodes, failures, silent }))
    }

    async fn backup(
        &self,
        request: Request<v1::BackupVolumeRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        let (actor, seen) = (actor(&request), self.see(&request).await?);
        let v1::BackupVolumeRequest { name, node } = request.into_inner();
        let name = named(&name)?;
        let place = match node.as_str() {
            "" => seen.only_holder(&name)?.ok_or_else(|| seen.nowhere(&name))?,
            _ => seen.one(&node)?,
        };
        info!(%actor, volume = name, node = place.hostname, "volume backup");
        Ok(Response::new(transfer::backup(seen, place, name).await?))
    }

    async fn restore(
        &self,
        request: Request<Streaming<v1::RestoreVolumeRequest>>,
    ) -> Result<Response<v1::RestoreVolumeResponse>, Status> {
        let (actor, seen) = (actor(&request), self.see(&request).await?);
        let mut parts = request.into_inner();
        let start = transfer::start(&mut parts).await?;
        let name = named(&start.name)?;
        let labels = labels(start.labels)?;
        let place = seen.one(if start.node.is_empty() { "self" } else { &start.node })?;
        info!(%actor, volume = name, node = place.hostname, replace = start.replace, "volume restore");
        let write = v1::WriteVolume { name, labels: labels.into_iter().collect(), replace: start.replace };
        Ok(Response::new(transfer::restore(seen, place, write, parts).await?))
    }
}

fn both_named_and_all() -> ApiError {
    ApiError::new(Reason::Invalid, "all-nodes: conflicts with nodes that are named")
}

/// References without repetitions, few enough.
fn distinct(references: &[String]) -> Result<BTreeSet<&str>, ApiError> {
    let distinct: BTreeSet<&str> = references.iter().map(String::as_str).collect();
    if distinct.len() > NODES {
        let message = format!("node: {} nodes are named, {NODES} at most", distinct.len());
        return Err(ApiError::new(Reason::TooLarge, message));
    }
    Ok(distinct)
}

#[cfg(test)]
mod tests;
