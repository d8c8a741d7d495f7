//! Services and tasks.

use std::pin::Pin;
use std::sync::atomic::Ordering;

use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};

use super::Manager;
use super::state::{BUSY, IMPORT, NEW, STUCK, WEB, ago, node_id, number_slot};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Manager {
    fn service(&self, reference: &str) -> Result<v1::Service, Status> {
        if reference == "w" {
            let error = ApiError::new(Reason::Invalid, "service \"w\" is ambiguous: it may be web or worker");
            return Err(error.into());
        }
        Ok(self.0.find(reference).ok_or_else(|| ApiError::not_found("service", reference))?)
    }
}

fn counts(id: &str) -> v1::ServiceCounts {
    match id {
        STUCK => v1::ServiceCounts { running: 1, desired: 2, ..Default::default() },
        BUSY => v1::ServiceCounts { running: 2, desired: 2, ..Default::default() },
        IMPORT => v1::ServiceCounts { running: 2, desired: 2, completed: 3, total: 6 },
        _ => v1::ServiceCounts { running: 3, desired: 3, ..Default::default() },
    }
}

/// How the watch of a service ends that is named for it.
fn endings(service: &v1::Service) -> Option<v1::ServiceProgress> {
    let name = &service.spec.as_ref()?.name;
    let (state, converged, message) = match name.as_str() {
        "pauses" => (v1::UpdateState::Paused, false, "2 of 3 new tasks failed: exit status 1"),
        "stays-back" => (v1::UpdateState::RollbackPaused, false, "the former tasks fail, too"),
        "goes-back" => (v1::UpdateState::RollbackCompleted, true, "2 of 3 new tasks failed: exit status 1"),
        "import" => (v1::UpdateState::Unspecified, true, ""),
        _ => return None,
    };
    let job = name == "import";
    let update =
        v1::UpdateProgress { state: state.into(), message: message.to_owned(), ..Default::default() };
    let status = v1::JobStatus { run: 1, ended_at: Some(9), ..Default::default() };
    let service =
        v1::Service { update: (!job).then_some(update), job: job.then_some(status), ..service.clone() };
    let counts = match job {
        true => v1::ServiceCounts { completed: 4, total: 6, ..Default::default() },
        false => v1::ServiceCounts { running: 3, desired: 3, ..Default::default() },
    };
    let (service, counts) = (Some(service), Some(counts));
    Some(v1::ServiceProgress { service, counts, converged, up_to_date: 3, ..Default::default() })
}

/// The watch of a service whose program ends for good a while after it was begun.
fn short_lived(service: &v1::Service) -> Answers<v1::ServiceProgress> {
    let progress = |running, state, error: &str| v1::ServiceProgress {
        service: Some(service.clone()),
        counts: Some(v1::ServiceCounts { running, desired: 1, ..Default::default() }),
        up_to_date: running,
        converged: true,
        slots: vec![v1::SlotProgress { state, error: error.to_owned(), ..Default::default() }],
        ..Default::default()
    };
    let (runs, ended) = (progress(1, 512, ""), progress(0, 704, "exit status 1"));
    let later = tokio_stream::once(ended).then(async |ended| {
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        Ok(ended)
    });
    let messages = tokio_stream::once(Ok(runs)).chain(later);
    Box::pin(messages.chain(tokio_stream::pending()))
}

#[tonic::async_trait]
impl v1::services_server::Services for Manager {
    type WatchStream = Answers<v1::ServiceProgress>;
    type LogsStream = Answers<v1::ServiceLogChunk>;

    async fn create(
        &self,
        request: Request<v1::CreateServiceRequest>,
    ) -> Result<Response<v1::CreateServiceResponse>, Status> {
        let request = request.into_inner();
        self.0.keys.lock().unwrap().push(request.idempotency_key);
        self.admit()?;
        let spec = request.spec.unwrap_or_default();
        if self.0.find(&spec.name).is_some() {
            return Err(
                ApiError::new(Reason::Exists, format!("service {:?} exists already", spec.name)).into()
            );
        }
        let mut warnings = Vec::new();
        if spec.name.is_empty() {
            warnings.push("the service got the name calm_otter".to_owned());
        }
        let mut services = self.0.services.lock().unwrap();
        let made = services.iter().filter(|service| service.id.starts_with('9')).count();
        let id = NEW.replacen('a', &made.to_string(), usize::from(made > 0));
        let service = v1::Service { id, version: 20, spec: Some(spec), ..Default::default() };
        services.push(service.clone());
        drop(services);
        Ok(Response::new(v1::CreateServiceResponse { service: Some(service), warnings, version: 20 }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateServiceRequest>,
    ) -> Result<Response<v1::UpdateServiceResponse>, Status> {
        self.admit()?;
        let request = request.into_inner();
        let service = self.service(&request.service)?;
        if service.id == BUSY || service.version != request.version {
            return Err(ApiError::new(Reason::Stale, "update out of sequence").into());
        }
        let previous_spec = service.spec.clone();
        let mut updated =
            v1::Service { version: service.version + 1, spec: request.spec, previous_spec, ..service };
        let forced = |spec: &Option<v1::ServiceSpec>| Some(spec.as_ref()?.task.as_ref()?.force_update);
        let begins = forced(&updated.spec) != forced(&updated.previous_spec);
        if let Some(job) = updated.job.as_mut().filter(|_| begins) {
            job.run += 1;
        }
        let mut services = self.0.services.lock().unwrap();
        services.retain(|service| service.id != updated.id);
        services.push(updated.clone());
        let version = updated.version;
        Ok(Response::new(v1::UpdateServiceResponse { service: Some(updated), warnings: Vec::new(), version }))
    }

    async fn rollback(
        &self,
        request: Request<v1::RollbackServiceRequest>,
    ) -> Result<Response<v1::RollbackServiceResponse>, Status> {
        self.admit()?;
        let request = request.into_inner();
        let service = self.service(&request.service)?;
        if service.version != request.version {
            return Err(ApiError::new(Reason::Stale, "update out of sequence").into());
        }
        let Some(previous) = service.previous_spec.clone() else {
            let message = "service web: it has no previous specification to go back to";
            return Err(ApiError::new(Reason::Forbidden, message).into());
        };
        let version = service.version + 1;
        let back =
            v1::Service { version, previous_spec: service.spec.clone(), spec: Some(previous), ..service };
        let mut services = self.0.services.lock().unwrap();
        services.retain(|service| service.id != back.id);
        services.push(back.clone());
        Ok(Response::new(v1::RollbackServiceResponse { service: Some(back), version }))
    }

    async fn rebalance(
        &self,
        request: Request<v1::RebalanceServiceRequest>,
    ) -> Result<Response<v1::RebalanceServiceResponse>, Status> {
        self.admit()?;
        let request = request.into_inner();
        let service = self.service(&request.service)?;
        if request.dry_run {
            let planned = |number: u64| v1::PlannedMove {
                slot: Some(v1::Slot { slot: Some(v1::slot::Slot::Number(number)) }),
                task: format!("{number:0>25}"),
                from_hostname: "worker-1".to_owned(),
                to_hostname: "worker-2".to_owned(),
            };
            let moves = (3..=4).rev().take(request.limit.unwrap_or(9) as usize).map(planned).collect();
            return Ok(Response::new(v1::RebalanceServiceResponse {
                service: Some(service),
                moves,
                version: 20,
            }));
        }
        let (state, message) = match request.limit {
            Some(0) => {
                let message = "service web cannot be rebalanced: it is not being rebalanced";
                return Err(ApiError::new(Reason::Forbidden, message).into());
            }
            Some(1) => (v1::RebalanceState::Stopped, "task 9 on worker-2 failed: no such file"),
            _ => (v1::RebalanceState::Completed, "2 tasks moved"),
        };
        let rebalance =
            v1::RebalanceProgress { state: state.into(), message: message.to_owned(), ..Default::default() };
        let moved = v1::Service { version: service.version + 1, rebalance: Some(rebalance), ..service };
        let mut services = self.0.services.lock().unwrap();
        services.retain(|service| service.id != moved.id);
        services.push(moved.clone());
        Ok(Response::new(v1::RebalanceServiceResponse {
            service: Some(moved),
            moves: Vec::new(),
            version: 20,
        }))
    }

    async fn remove(
        &self,
        request: Request<v1::RemoveServiceRequest>,
    ) -> Result<Response<v1::RemoveServiceResponse>, Status> {
        self.admit()?;
        let service = self.service(&request.into_inner().service)?;
        self.0.services.lock().unwrap().retain(|known| known.id != service.id);
        Ok(Response::new(v1::RemoveServiceResponse { id: service.id, version: 30 }))
    }

    async fn get(
        &self,
        request: Request<v1::GetServiceRequest>,
    ) -> Result<Response<v1::GetServiceResponse>, Status> {
        self.admit()?;
        let service = self.service(&request.into_inner().service)?;
        let counts = Some(counts(&service.id));
        Ok(Response::new(v1::GetServiceResponse { service: Some(service), counts, index: 20 }))
    }

    async fn list(
        &self,
        _: Request<v1::ListServicesRequest>,
    ) -> Result<Response<v1::ListServicesResponse>, Status> {
        self.admit()?;
        let services = self.0.services.lock().unwrap().clone();
        let item = |service: v1::Service| {
            let counts = Some(counts(&service.id));
            v1::ServiceListItem { service: Some(service), counts }
        };
        let services = services.into_iter().map(item).collect();
        Ok(Response::new(v1::ListServicesResponse { services, index: 20 }))
    }

    async fn watch(
        &self,
        request: Request<v1::WatchServiceRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.admit()?;
        let service = self.service(&request.into_inner().service)?;
        let opened = self.0.watches.fetch_add(1, Ordering::SeqCst);
        let stuck = service.id == STUCK;
        if service.spec.as_ref().is_some_and(|spec| spec.name == "short-lived") {
            return Ok(Response::new(short_lived(&service)));
        }
        if let Some(end) = endings(&service) {
            return Ok(Response::new(Box::pin(tokio_stream::once(Ok(end)).chain(tokio_stream::pending()))));
        }
        let progress = |running, converged| v1::ServiceProgress {
            service: Some(service.clone()),
            counts: Some(v1::ServiceCounts { running, ..counts(&service.id) }),
            up_to_date: running,
            converged,
            slots: vec![v1::SlotProgress {
                slot: number_slot(2),
                state: if stuck { 64 } else { 512 },
                error: if stuck { "exit status 3".to_owned() } else { String::new() },
                ..Default::default()
            }],
            waiting: if stuck { vec!["1 node: not enough memory".to_owned()] } else { Vec::new() },
            remaining_tasks: 0,
            index: 20,
        };
        if stuck {
            let first = tokio_stream::once(Ok(progress(1, false)));
            return Ok(Response::new(Box::pin(first.chain(tokio_stream::pending()))));
        }
        // The first watch breaks off, as one does when the leader changes.
        let answers = match opened {
            0 => vec![
                Ok(progress(1, false)),
                Err(ApiError::new(Reason::NotLeader, "the leader changed").into()),
            ],
            _ => vec![Ok(progress(2, false)), Ok(progress(counts(&service.id).desired, true))],
        };
        // A watch goes on after the service has converged.
        Ok(Response::new(Box::pin(tokio_stream::iter(answers).chain(tokio_stream::pending()))))
    }

    async fn logs(
        &self,
        request: Request<v1::ServiceLogsRequest>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        self.admit()?;
        let request = request.into_inner();
        self.service(&request.target)?;
        let line = |slot, stream, text: &'static str, partial| v1::ServiceLogLine {
            service_name: "web".to_owned(),
            slot: number_slot(slot),
            task: format!("{slot}task{}", "t".repeat(20)),
            node_hostname: "worker-1".to_owned(),
            time: 1_700_000_000_000_000_000,
            stream,
            text: text.as_bytes().to_vec().into(),
            partial,
            service: WEB.to_owned(),
            node: node_id(1),
        };
        let lines = vec![
            line(1, 1, "be", true),
            line(2, 1, "other", false),
            line(1, 1, "gun", false),
            line(1, 2, "broken", false),
        ];
        let missing = vec!["worker-2 (down): its lines are missing".to_owned()];
        let mut chunks = vec![Ok(v1::ServiceLogChunk { lines, missing })];
        if request.follow && request.since == 0 {
            chunks.push(Err(ApiError::new(Reason::Unavailable, "leadership has changed; ask again").into()));
        } else if request.follow {
            // The rest is new to whoever asks again.
            let later = v1::ServiceLogLine { time: 1_700_000_001_000_000_000, ..line(1, 1, "later", false) };
            chunks.push(Ok(v1::ServiceLogChunk { lines: vec![later], missing: Vec::new() }));
        }
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks))))
    }
}

#[tonic::async_trait]
impl v1::tasks_server::Tasks for Manager {
    async fn list(
        &self,
        request: Request<v1::ListTasksRequest>,
    ) -> Result<Response<v1::ListTasksResponse>, Status> {
        self.admit()?;
        let request = request.into_inner();
        if request.tasks == ["too-large"] {
            let image = "x".repeat(2 << 20);
            let tasks = vec![v1::TaskListItem { image, ..Default::default() }];
            return Ok(Response::new(v1::ListTasksResponse { tasks, index: 20 }));
        }
        let services: Vec<String> = request
            .services
            .iter()
            .map(|service| self.service(service).map(|service| service.id))
            .collect::<Result<_, _>>()?;
        let tasks = tasks(request.with_spec).into_iter().filter(|item| {
            let task = item.task.clone().unwrap_or_default();
            (services.is_empty() || services.contains(&task.service))
                && (request.nodes.is_empty() || request.nodes.contains(&task.node))
                && (request.tasks.is_empty()
                    || request.tasks.iter().any(|prefix| task.id.starts_with(prefix)))
        });
        Ok(Response::new(v1::ListTasksResponse { tasks: tasks.collect(), index: 20 }))
    }
}

fn tasks(with_spec: bool) -> Vec<v1::TaskListItem> {
    let status = |state, since| v1::TaskStatus { state, since: ago(since), ..Default::default() };
    let item = |id: &str, slot, node: Option<u32>, desired, status| v1::TaskListItem {
        task: Some(v1::Task {
            id: format!("{id}{}", "t".repeat(20)),
            version: 19,
            created_at: 1_700_000_000_000_000_000 + u64::from(id.as_bytes()[0]),
            service: WEB.to_owned(),
            spec_version: 12,
            slot: number_slot(slot),
            node: node.map(node_id).unwrap_or_default(),
            desired,
            start_after: None,
            status: Some(status),
            ..Default::default()
        }),
        service_name: "web".to_owned(),
        node_hostname: node.map(|node| format!("worker-{node}")).unwrap_or_default(),
        image: "web:1".to_owned(),
        up_to_date: id > "b",
        host_ports: [80, 81, 443].map(|port| v1::HostPort { port, ..Default::default() }).into(),
        spec: with_spec.then(|| spec(id)),
        service_labels: if with_spec {
            [("team".to_owned(), "web".to_owned())].into()
        } else {
            Default::default()
        },
        ..Default::default()
    };
    let of_job = v1::TaskListItem {
        service_name: "import".to_owned(),
        ..item("etas", 0, Some(3), 512, status(576, 60))
    };
    let of_job = v1::TaskListItem {
        task: of_job.task.map(|task| v1::Task { service: IMPORT.to_owned(), run: 4, ..task }),
        ..of_job
    };
    let failed = v1::TaskStatus {
        exit: Some(v1::Exit { how: Some(v1::exit::How::Code(3)) }),
        error: "the program ended with exit status 3 \u{1b}[31m".to_owned(),
        ..status(704, 3700)
    };
    let killed = v1::TaskStatus {
        exit: Some(v1::Exit { how: Some(v1::exit::How::OutOfMemory(true)) }),
        ..status(704, 86400 * 3)
    };
    let waiting = v1::TaskListItem {
        waiting: "2 nodes: not enough memory; 1 node: node.role is not worker".to_owned(),
        ..item("ctas", 2, None, 512, status(64, 200))
    };
    vec![
        item("atas", 1, Some(1), 640, killed),
        waiting,
        of_job,
        item("btas", 1, Some(2), 640, failed),
        item("dtas", 1, Some(1), 512, v1::TaskStatus { pid: 4242, ..status(512, 330) }),
    ]
}

/// The specification of a task.
fn spec(id: &str) -> v1::TaskSpec {
    let container =
        v1::ContainerSpec { labels: [("task".to_owned(), id.to_owned())].into(), ..Default::default() };
    v1::TaskSpec { container: Some(container), ..Default::default() }
}
