//! Services.

use std::sync::Arc;

use coracle_manager_core::change::Change;
use coracle_manager_core::counts;
use coracle_manager_core::state::{State, View};
use coracle_model::digest::Digest;
use coracle_model::id::{IdempotencyKey, ServiceId};
use coracle_model::image_ref::ImageReference;
use coracle_model::name::ServiceName;
use coracle_model::service::{Service, ServiceSpec};
use coracle_model::validate;
use coracle_model::version::Version;
use coracle_proto::convert::service::draft;
use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1;
use coracle_proto::v1::services_server::Services;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{actor, file_use, idempotency, image_mount, logs, progress, rebalance, resolve};
use crate::dispatcher::Dispatcher;
use crate::store::{Decision, Store, Write, now};

/// Progress messages on their way to a watcher.
const PROGRESS: usize = 8;

/// The service over services.
#[derive(Debug, Clone)]
pub struct ServicesApi {
    store: Store,
    dispatcher: Arc<Dispatcher>,
}

impl ServicesApi {
    /// The API over this state.
    #[must_use]
    pub const fn new(store: Store, dispatcher: Arc<Dispatcher>) -> Self {
        Self { store, dispatcher }
    }

    /// A service that was written once, as it is now.
    fn get_written(&self, id: ServiceId) -> Result<v1::Service, ApiError> {
        let view = self.store.view();
        Ok((&**view.service(id).ok_or_else(|| gone(id))?).into())
    }

    /// A service that was just written, as it is now. If somebody has removed it meanwhile, the write was done all the
    /// same, and its caller must not take it for refused: then as it was written.
    fn just_written(&self, written: &Service) -> v1::Service {
        self.store.view().service(written.id).map_or_else(|| written.into(), |service| (&**service).into())
    }
}

/// Reads a specification as an operator sends it: the image is a name that the image table resolves.
fn specification(
    view: &View,
    present: Option<&ServiceSpec>,
    spec: Option<v1::ServiceSpec>,
) -> Result<ServiceSpec, ApiError> {
    let spec = spec.ok_or_else(no_specification)?;
    let mut draft = draft(spec)?;
    if draft.name().is_none() {
        draft = draft.with_name(free_name(view)?);
    }
    let digest = resolve_image(view, draft.image_reference())?;
    let mut spec = draft.pin(digest)?;
    image_mount::resolve(view, present, &mut spec)?;
    file_use::resolve(view, &mut spec)?;
    check(view, &spec)?;
    Ok(spec)
}

/// What the specification may say at all, and what the cluster's policy lets it say.
fn check(view: &State, spec: &ServiceSpec) -> Result<(), ApiError> {
    validate::service(spec)?;
    Ok(validate::policy(spec, view.cluster_spec().allow_privileged)?)
}

/// A service as it is proposed; what the log decides is filled in when it is applied.
fn new_service(id: ServiceId, spec: ServiceSpec) -> Service {
    let at = now();
    Service {
        id,
        version: Version::default(),
        spec_version: Version::default(),
        created_at: at,
        updated_at: at,
        spec,
        previous_spec: None,
        update: None,
        job: None,
        rebalance: None,
    }
}

/// The specification that a request for an update makes of a service's.
fn updated(
    view: &View,
    service: &Service,
    request: &v1::UpdateServiceRequest,
) -> Result<ServiceSpec, ApiError> {
    let mut spec = keep_pin(view, service, request.spec.clone())?;
    file_use::keep_for_job(&service.spec, &mut spec);
    if spec.name != service.spec.name {
        let message = format!("name: invalid value {:?}: a service cannot be renamed", spec.name.as_str());
        return Err(ApiError::new(Reason::Invalid, message).with_hint("create another service of this name"));
    }
    if std::mem::discriminant(&spec.mode) != std::mem::discriminant(&service.spec.mode) {
        let message =
            format!("mode: invalid value {:?}: the mode of a service cannot change", spec.mode.as_str());
        return Err(ApiError::new(Reason::Invalid, message).with_hint("create another service of this mode"));
    }
    Ok(spec)
}

fn gone(id: ServiceId) -> ApiError {
    ApiError::new(Reason::NotFound, format!("service {id} was removed meanwhile"))
}

fn no_specification() -> ApiError {
    ApiError::new(Reason::Invalid, "the request has no specification")
}

/// The digest that an image name stands for at present.
pub(super) fn resolve_image(view: &State, text: &str) -> Result<Digest, ApiError> {
    let reference: ImageReference =
        text.parse().map_err(|error| ApiError::new(Reason::Invalid, format!("image: {error}")))?;
    let unknown = || {
        ApiError::new(
            Reason::NotFound,
            format!("image: unknown image {text:?}: the cluster has no image of this name"),
        )
        .with_hint("load it once on a manager with `coracle image load -i FILE`; see `coracle image ls`")
    };
    if let Some(digest) = reference.digest() {
        return view.images().any(|image| image.digest == digest).then_some(digest).ok_or_else(unknown);
    }
    view.image(&reference.canonical()).map(|image| image.digest).ok_or_else(unknown)
}

/// The write of one change that an operator asked for.
fn asked(change: Change, actor: &str, reason: &'static str, idempotency: Option<IdempotencyKey>) -> Write {
    Write { changes: vec![change], actor: actor.to_owned(), reason, idempotency, term: 0 }
}

/// A name for a service that was given none: two words, and a number if they are taken.
fn free_name(view: &State) -> Result<ServiceName, ApiError> {
    const FIRST: [&str; 16] = [
        "amber", "brisk", "calm", "dapper", "eager", "fleet", "gentle", "hardy", "jolly", "keen", "lively",
        "mellow", "nimble", "proud", "quiet", "steady",
    ];
    const SECOND: [&str; 16] = [
        "anchor", "beacon", "compass", "dinghy", "estuary", "ferry", "gull", "harbour", "island", "jetty",
        "keel", "lagoon", "mast", "oar", "paddle", "reef",
    ];
    loop {
        let name = format!("{}_{}", FIRST[rand::random_range(0..16)], SECOND[rand::random_range(0..16)]);
        let name = if view.services().any(|s| s.spec.name.as_str() == name) {
            format!("{name}{}", rand::random_range(2..10_000))
        } else {
            name
        };
        if view.services().all(|s| s.spec.name.as_str() != name) {
            return name.parse().map_err(|error| ApiError::new(Reason::Internal, format!("{error}")));
        }
    }
}

#[tonic::async_trait]
impl Services for ServicesApi {
    type WatchStream = ReceiverStream<Result<v1::ServiceProgress, Status>>;
    type LogsStream = ReceiverStream<Result<v1::ServiceLogChunk, Status>>;

    async fn create(
        &self,
        request: Request<v1::CreateServiceRequest>,
    ) -> Result<Response<v1::CreateServiceResponse>, Status> {
        let actor = actor(&request);
        let request = request.into_inner();
        let key = idempotency(&request.idempotency_key)?;
        // The same key gives the same id, so that a retry finds what the first try made.
        let id = ServiceId::from_bits(key.map_or_else(rand::random, |key| key.bits()));
        let decided = self.store.decide(|view| {
            if let Some(version) = key.and_then(|key| view.applied_at(key)) {
                return Ok(Decision::Stands(Version::new(version), None));
            }
            let service = new_service(id, specification(view, None, request.spec.clone())?);
            let write =
                asked(Change::CreateService(Box::new(service.clone())), &actor, "service create", key);
            Ok(Decision::Write(write, Some(service)))
        });
        let (version, created) = decided.await?;
        let service = Some(match created {
            Some(service) => {
                tracing::info!(service = %service.spec.name, %id, "service created");
                self.just_written(&Service { version, spec_version: version, ..service })
            }
            None => self.get_written(id)?,
        });
        let version = version.index();
        Ok(Response::new(v1::CreateServiceResponse { service, warnings: Vec::new(), version }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateServiceRequest>,
    ) -> Result<Response<v1::UpdateServiceResponse>, Status> {
        let actor = actor(&request);
        let request = request.into_inner();
        let key = idempotency(&request.idempotency_key)?;
        let decided = self.store.decide(|view| {
            let service = resolve::service(view, &request.service)?;
            if let Some(version) = key.and_then(|key| view.applied_at(key)) {
                return Ok(Decision::Stands(Version::new(version), Err(service.id)));
            }
            let spec = updated(view, &service, &request)?;
            let change = Change::UpdateService {
                service: service.id,
                expected: Version::new(request.version),
                spec: Box::new(spec.clone()),
            };
            let write = asked(change, &actor, "service update", key);
            Ok(Decision::Write(write, Ok(Service { spec, ..(*service).clone() })))
        });
        let (version, updated) = decided.await?;
        let service = Some(match updated {
            Ok(service) => self.just_written(&Service { version, ..service }),
            Err(id) => self.get_written(id)?,
        });
        let version = version.index();
        Ok(Response::new(v1::UpdateServiceResponse { service, warnings: Vec::new(), version }))
    }

    async fn rollback(
        &self,
        request: Request<v1::RollbackServiceRequest>,
    ) -> Result<Response<v1::RollbackServiceResponse>, Status> {
        let actor = actor(&request);
        let request = request.into_inner();
        let idempotency = idempotency(&request.idempotency_key)?;
        let decided = self.store.decide(|view| {
            let service = resolve::service(view, &request.service)?;
            if let Some(version) = idempotency.and_then(|key| view.applied_at(key)) {
                return Ok(Decision::Stands(Version::new(version), service));
            }
            // What the cluster allowed once it may not allow any more. An automatic rollback is not asked: what ran a moment ago
            // is better than what does not run.
            if let Some(previous) = &service.previous_spec {
                check(view, previous)?;
            }
            // What is put in force is what was looked at, also where the caller names no version.
            let expected = if request.version == 0 { service.version } else { Version::new(request.version) };
            let change = Change::RollBackService {
                service: service.id,
                expected,
                message: "rollback in progress".to_owned(),
                automatic: false,
            };
            let write = asked(change, &actor, "service rollback", idempotency);
            Ok(Decision::Write(write, service))
        });
        let (version, service) = decided.await?;
        let (service, version) = (Some(self.just_written(&service)), version.index());
        Ok(Response::new(v1::RollbackServiceResponse { service, version }))
    }

    async fn rebalance(
        &self,
        request: Request<v1::RebalanceServiceRequest>,
    ) -> Result<Response<v1::RebalanceServiceResponse>, Status> {
        let actor = actor(&request);
        let request = request.into_inner();
        if request.dry_run {
            let view = self.store.barrier().await?;
            // One move after the other of a large service: not on a thread that serves calls.
            let previewed = tokio::task::spawn_blocking(move || rebalance::preview(&view, &request)).await;
            let broke = |error| ApiError::new(Reason::Internal, format!("looking ahead failed: {error}"));
            return Ok(Response::new(previewed.map_err(broke)??));
        }
        let idempotency = idempotency(&request.idempotency_key)?;
        let decided = self.store.decide(|view| {
            let service = resolve::service(view, &request.service)?;
            if let Some(version) = idempotency.and_then(|key| view.applied_at(key)) {
                return Ok(Decision::Stands(Version::new(version), service));
            }
            let write = asked(
                rebalance::begin(&service, request.limit, self.store.present())?,
                &actor,
                "service rebalance",
                idempotency,
            );
            Ok(Decision::Write(write, service))
        });
        let (version, service) = decided.await?;
        let (service, version) = (Some(self.just_written(&service)), version.index());
        Ok(Response::new(v1::RebalanceServiceResponse { service, moves: Vec::new(), version }))
    }

    async fn remove(
        &self,
        request: Request<v1::RemoveServiceRequest>,
    ) -> Result<Response<v1::RemoveServiceResponse>, Status> {
        let actor = actor(&request);
        let request = request.into_inner();
        let idempotency = idempotency(&request.idempotency_key)?;
        let decided = self.store.decide(|view| {
            if let Some(version) = idempotency.and_then(|key| view.applied_at(key)) {
                return Ok(Decision::Stands(Version::new(version), request.service.clone()));
            }
            let service = resolve::service(view, &request.service)?.id;
            let write = asked(
                Change::RemoveService { service, expected: Version::default() },
                &actor,
                "service rm",
                idempotency,
            );
            Ok(Decision::Write(write, service.to_string()))
        });
        let (version, id) = decided.await?;
        let version = version.index();
        Ok(Response::new(v1::RemoveServiceResponse { id, version }))
    }

    async fn get(
        &self,
        request: Request<v1::GetServiceRequest>,
    ) -> Result<Response<v1::GetServiceResponse>, Status> {
        let view = self.store.barrier().await?;
        let service = resolve::service(&view, &request.get_ref().service)?;
        let counts = Some(progress::counts(&counts::service(&view, service.id)));
        let (service, index) = (Some((&*service).into()), view.index());
        Ok(Response::new(v1::GetServiceResponse { service, counts, index }))
    }

    async fn list(
        &self,
        _: Request<v1::ListServicesRequest>,
    ) -> Result<Response<v1::ListServicesResponse>, Status> {
        let view = self.store.barrier().await?;
        let item = |service: &Arc<Service>| v1::ServiceListItem {
            service: Some((&**service).into()),
            counts: Some(progress::counts(&counts::service(&view, service.id))),
        };
        let services = view.services().map(item).collect();
        Ok(Response::new(v1::ListServicesResponse { services, index: view.index() }))
    }

    async fn watch(
        &self,
        request: Request<v1::WatchServiceRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let view = self.store.barrier().await?;
        let service = resolve::service(&view, &request.get_ref().service)?.id;
        let (sender, receiver) = mpsc::channel(PROGRESS);
        let stop = self.dispatcher.leading().await?.stop;
        tokio::spawn(progress::run(self.store.clone(), service, sender, stop));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn logs(
        &self,
        request: Request<v1::ServiceLogsRequest>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        let term = self.dispatcher.leading().await?;
        let stream = logs::open(self.store.clone(), term, request.into_inner()).await?;
        Ok(Response::new(stream))
    }
}

/// The specification of an update: the image keeps its digest when its name stays, unless the caller asks for a new
/// resolution by leaving the digest empty.
fn keep_pin(view: &View, service: &Service, spec: Option<v1::ServiceSpec>) -> Result<ServiceSpec, ApiError> {
    let present = &service.spec.task.container.image;
    let requested =
        spec.as_ref().and_then(|s| s.task.as_ref()?.container.as_ref()?.image.clone()).unwrap_or_default();
    if requested.reference == present.reference && requested.digest == present.digest.to_string() {
        let spec = spec.ok_or_else(no_specification)?;
        let mut spec = draft(spec)?.pin(present.digest)?;
        image_mount::resolve(view, Some(&service.spec), &mut spec)?;
        file_use::resolve(view, &mut spec)?;
        check(view, &spec)?;
        return Ok(spec);
    }
    specification(view, Some(&service.spec), spec)
}

#[cfg(test)]
mod tests;
