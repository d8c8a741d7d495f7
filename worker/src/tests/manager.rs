//! A manager played by the test: a real server with a real certificate, whose answers are the test's.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coracle_model::checksum;
use coracle_model::id::{ClusterId, NodeId, TaskId};
use coracle_model::task::{DesiredState, TaskState, TaskStatus};
use coracle_model::version::Version;
use coracle_pki::csr::{CertificateRequest, request_certificate};
use coracle_pki::issue::{DEFAULT_VALIDITY, Grant};
use coracle_pki::key::PrivateKey;
use coracle_pki::tls::server_config;
use coracle_pki::{
    Authority, NodeIdentity, RootCertificate, RootKey, Subject, SwappableIdentity, TicketKey, UnixTime,
};
use coracle_proto::v1;
use coracle_proto::v1::agent_message::Message as Up;
use coracle_proto::v1::dispatcher_server::{Dispatcher, DispatcherServer};
use coracle_proto::v1::manager_message::Message as Down;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status, Streaming};

/// Longest wait for anything that is due.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) fn now() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs()))
}

/// A cluster's authority.
pub(crate) struct World {
    pub(crate) authority: Authority,
    pub(crate) tickets: TicketKey,
}

impl World {
    pub(crate) fn new() -> Arc<Self> {
        let key = RootKey::generate().unwrap();
        let root: RootCertificate = key.certify(ClusterId::from_bits(1), now()).unwrap();
        let authority = Authority::new(root, key).unwrap();
        Arc::new(Self { authority, tickets: TicketKey::generate().unwrap() })
    }

    pub(crate) fn identity(&self, subject: Subject) -> NodeIdentity {
        self.identity_of(subject, now())
    }

    /// With a certificate of that time.
    pub(crate) fn identity_of(&self, subject: Subject, issued: UnixTime) -> NodeIdentity {
        let key = PrivateKey::generate().unwrap();
        let request = CertificateRequest::from_der(&request_certificate(&key).unwrap()).unwrap();
        let grant = Grant { subject, validity: DEFAULT_VALIDITY, now: issued };
        let leaf = self.authority.issue(&request, &grant).unwrap();
        NodeIdentity::new(vec![leaf], key, self.authority.root().clone()).unwrap()
    }

    pub(crate) fn worker(&self, bits: u128) -> SwappableIdentity {
        SwappableIdentity::new(self.identity(Subject::Worker(NodeId::from_bits(bits)))).unwrap()
    }

    pub(crate) fn manager(&self, bits: u128) -> SwappableIdentity {
        SwappableIdentity::new(self.identity(Subject::Manager(NodeId::from_bits(bits)))).unwrap()
    }
}

/// Serves `routes` with an identity; ends when the guard is dropped.
pub(crate) async fn serve(
    identity: &SwappableIdentity,
    routes: tonic::service::Routes,
) -> (String, DropGuard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let stop = CancellationToken::new();
    let tls = Arc::new(server_config(identity).unwrap());
    tokio::spawn(coracle_rpc::serve::serve_tls(listener, tls, routes, stop.clone()));
    (address, stop.drop_guard())
}

/// See the module.
pub(crate) struct FakeManager {
    pub(crate) address: String,
    sessions: mpsc::Receiver<PlayedSession>,
    pub(crate) logs: mpsc::Receiver<v1::LogChunk>,
    /// What agents send of volumes.
    pub(crate) volume_chunks: mpsc::Receiver<Result<v1::VolumeChunk, Status>>,
    service: Service,
    _server: DropGuard,
}

#[derive(Clone)]
struct Service {
    sessions: mpsc::Sender<PlayedSession>,
    logs: mpsc::Sender<v1::LogChunk>,
    images: Arc<Mutex<BTreeMap<String, v1::RequestImageResponse>>>,
    /// What the cluster needs; nothing while the manager does not say.
    needed: Arc<Mutex<Option<Vec<String>>>>,
    image_checks: Arc<AtomicUsize>,
    refusal: Arc<Mutex<Option<Status>>>,
    volume_chunks: mpsc::Sender<Result<v1::VolumeChunk, Status>>,
    /// Archives that agents may fetch, by request.
    archives: Arc<Mutex<BTreeMap<String, ArchiveStream>>>,
}

type ArchiveStream = ReceiverStream<Result<v1::VolumeChunk, Status>>;

#[tonic::async_trait]
impl Dispatcher for Service {
    type SessionStream = ReceiverStream<Result<v1::ManagerMessage, Status>>;
    type FetchVolumeStream = ArchiveStream;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        if let Some(refusal) = self.refusal.lock().unwrap().clone() {
            return Err(refusal);
        }
        let mut inbound = request.into_inner();
        let (down, outbound) = mpsc::channel(64);
        let (heard, up) = mpsc::channel(1024);
        let (heard_of_volumes, volumes) = mpsc::channel(1024);
        let Some(Up::Hello(hello)) = inbound.message().await?.and_then(|first| first.message) else {
            return Err(Status::invalid_argument("no hello"));
        };
        let beats = Arc::new(Mutex::new(true));
        let session = PlayedSession {
            hello,
            up,
            volumes,
            down: down.clone(),
            beats: beats.clone(),
            sequence: 0,
            tasks: BTreeMap::new(),
            unread: VecDeque::new(),
        };
        // Held weakly: the session is closed by dropping its played side.
        let down = down.downgrade();
        let _ = self.sessions.send(session).await;
        tokio::spawn(async move {
            while let Ok(Some(message)) = inbound.message().await {
                match message.message {
                    Some(Up::Heartbeat(_)) => {
                        let answer = *beats.lock().unwrap();
                        if let Some(down) = down.upgrade().filter(|_| answer) {
                            let ack = Down::HeartbeatAck(v1::HeartbeatAck {});
                            let _ = down.send(Ok(v1::ManagerMessage { message: Some(ack) })).await;
                        }
                    }
                    Some(message @ (Up::Volumes(_) | Up::VolumeAnswer(_))) => {
                        drop(heard_of_volumes.send(message).await);
                    }
                    Some(message) => drop(heard.send(message).await),
                    None => {}
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(outbound)))
    }

    async fn request_image(
        &self,
        request: Request<v1::RequestImageRequest>,
    ) -> Result<Response<v1::RequestImageResponse>, Status> {
        let known = self.images.lock().unwrap().get(&request.get_ref().digest).cloned();
        known.map(Response::new).ok_or_else(|| Status::not_found("no such image"))
    }

    async fn check_images(
        &self,
        request: Request<v1::CheckImagesRequest>,
    ) -> Result<Response<v1::CheckImagesResponse>, Status> {
        self.image_checks.fetch_add(1, Ordering::Relaxed);
        let needed = self.needed.lock().unwrap().clone();
        let needed = needed.ok_or_else(|| Status::unavailable("no majority"))?;
        let asked = request.into_inner().digests;
        Ok(Response::new(v1::CheckImagesResponse {
            needed: asked.into_iter().filter(|digest| needed.contains(digest)).collect(),
        }))
    }

    async fn publish_logs(
        &self,
        request: Request<Streaming<v1::LogChunk>>,
    ) -> Result<Response<v1::PublishLogsResponse>, Status> {
        let mut chunks = request.into_inner();
        while let Some(chunk) = chunks.next().await {
            let _ = self.logs.send(chunk?).await;
        }
        Ok(Response::new(v1::PublishLogsResponse {}))
    }

    async fn publish_volume(
        &self,
        request: Request<Streaming<v1::VolumeChunk>>,
    ) -> Result<Response<v1::PublishVolumeResponse>, Status> {
        let mut chunks = request.into_inner();
        while let Some(chunk) = chunks.next().await {
            if self.volume_chunks.send(chunk).await.is_err() {
                break;
            }
        }
        Ok(Response::new(v1::PublishVolumeResponse {}))
    }

    async fn fetch_volume(
        &self,
        request: Request<v1::FetchVolumeRequest>,
    ) -> Result<Response<Self::FetchVolumeStream>, Status> {
        let archive = self.archives.lock().unwrap().remove(&request.get_ref().id);
        archive.map(Response::new).ok_or_else(|| Status::not_found("no such request"))
    }
}

impl FakeManager {
    pub(crate) async fn start(world: &World, bits: u128) -> Self {
        let (sender, sessions) = mpsc::channel(16);
        let (logs_in, logs) = mpsc::channel(1024);
        // Few, so that a test that does not read holds the agent up.
        let (volumes_in, volume_chunks) = mpsc::channel(2);
        let service = Service {
            sessions: sender,
            logs: logs_in,
            images: Arc::default(),
            needed: Arc::default(),
            image_checks: Arc::default(),
            refusal: Arc::default(),
            volume_chunks: volumes_in,
            archives: Arc::default(),
        };
        let routes = tonic::service::Routes::new(DispatcherServer::new(service.clone()));
        let (address, server) = serve(&world.manager(bits), routes).await;
        Self { address, sessions, logs, volume_chunks, service, _server: server }
    }

    /// Gives an archive to whoever asks for this request: what the test sends.
    pub(crate) fn give_archive(&self, id: &str) -> mpsc::Sender<Result<v1::VolumeChunk, Status>> {
        let (sender, chunks) = mpsc::channel(8);
        self.service.archives.lock().unwrap().insert(id.to_owned(), ReceiverStream::new(chunks));
        sender
    }

    /// From now on says that the cluster needs these images and no others.
    pub(crate) fn need_images(&self, needed: &[String]) {
        *self.service.needed.lock().unwrap() = Some(needed.to_vec());
    }

    /// How often the agent asked what the cluster needs.
    pub(crate) fn image_checks(&self) -> usize {
        self.service.image_checks.load(Ordering::Relaxed)
    }

    pub(crate) fn give_image(&self, digest: &str, response: v1::RequestImageResponse) {
        self.service.images.lock().unwrap().insert(digest.to_owned(), response);
    }

    /// From now on answers every session so.
    pub(crate) fn refuse(&self, refusal: impl Into<Status>) {
        *self.service.refusal.lock().unwrap() = Some(refusal.into());
    }

    /// The next session, not yet welcomed.
    pub(crate) async fn session(&mut self) -> PlayedSession {
        tokio::time::timeout(DEADLINE, self.sessions.recv()).await.expect("no session in time").unwrap()
    }

    /// The next session, welcomed.
    pub(crate) async fn welcomed(&mut self, world: &World) -> PlayedSession {
        let session = self.session().await;
        session.welcome(world, std::slice::from_ref(&self.address)).await;
        session
    }
}

/// One session from the manager's side.
pub(crate) struct PlayedSession {
    pub(crate) hello: v1::Hello,
    up: mpsc::Receiver<Up>,
    volumes: mpsc::Receiver<Up>,
    down: mpsc::Sender<Result<v1::ManagerMessage, Status>>,
    beats: Arc<Mutex<bool>>,
    pub(crate) sequence: u64,
    pub(crate) tasks: BTreeMap<TaskId, DesiredState>,
    unread: VecDeque<(TaskId, TaskStatus)>,
}

impl PlayedSession {
    pub(crate) async fn send(&self, message: Down) {
        let message = v1::ManagerMessage { message: Some(message) };
        self.down.send(Ok(message)).await.unwrap();
    }

    pub(crate) async fn welcome(&self, world: &World, managers: &[String]) {
        self.welcome_beating(world, managers, Duration::from_secs(5)).await;
    }

    pub(crate) async fn welcome_beating(&self, world: &World, managers: &[String], period: Duration) {
        self.welcome_in(world, managers, period, 0).await;
    }

    pub(crate) async fn welcome_in(&self, world: &World, managers: &[String], period: Duration, term: u64) {
        let key = world.tickets.public().unwrap().0.to_vec();
        self.send(Down::Welcome(v1::Welcome {
            session_id: "1".into(),
            heartbeat_period: u64::try_from(period.as_nanos()).unwrap(),
            node: Some(v1::NodeUpdate {
                role: v1::NodeRole::Worker.into(),
                availability: v1::Availability::Active.into(),
            }),
            managers: Some(v1::ManagerList { addresses: managers.to_vec() }),
            ticket_public_key: key.into(),
            term,
        }))
        .await;
    }

    pub(crate) fn stop_answering_heartbeats(&self) {
        *self.beats.lock().unwrap() = false;
    }

    fn sum(&self) -> u64 {
        checksum::assignments(self.tasks.iter().map(|(task, desired)| (*task, Version::new(1), *desired)))
    }

    /// Sends the complete set of these.
    pub(crate) async fn complete(&mut self, tasks: &[v1::AssignedTask]) {
        self.tasks.clear();
        self.sequence = 0;
        self.assign(true, tasks, &[]).await;
    }

    pub(crate) async fn increment(&mut self, tasks: &[v1::AssignedTask], removed: &[TaskId]) {
        self.assign(false, tasks, removed).await;
    }

    async fn assign(&mut self, complete: bool, tasks: &[v1::AssignedTask], removed: &[TaskId]) {
        for task in tasks {
            let desired = DesiredState::from_number(u16::try_from(task.desired).unwrap()).unwrap();
            self.tasks.insert(task.id.parse().unwrap(), desired);
        }
        for task in removed {
            self.tasks.remove(task);
        }
        self.sequence += 1;
        self.send(Down::Assignments(v1::Assignments {
            complete,
            sequence: self.sequence,
            set: tasks.to_vec(),
            removed: removed.iter().map(ToString::to_string).collect(),
            checksum: self.sum(),
            files: None,
        }))
        .await;
    }

    /// The next message about volumes.
    pub(crate) async fn next_of_volumes(&mut self) -> Up {
        let next = tokio::time::timeout(DEADLINE, self.volumes.recv()).await;
        next.expect("nothing came in time").expect("the session ended")
    }

    /// The next message that is no heartbeat and not about volumes; nothing when the agent closed the session.
    pub(crate) async fn next(&mut self) -> Option<Up> {
        tokio::time::timeout(DEADLINE, self.up.recv()).await.expect("nothing came in time")
    }

    /// Reads, and acknowledges if so told, until a task has a state.
    pub(crate) async fn until(&mut self, task: TaskId, state: TaskState, acknowledge: bool) -> TaskStatus {
        loop {
            // What other tasks said is kept for whoever asks for it.
            if let Some(at) =
                self.unread.iter().position(|(who, status)| *who == task && status.state == state)
            {
                return self.unread.remove(at).unwrap().1;
            }
            if let Up::Statuses(report) = self.next().await.expect("the session ended") {
                self.keep(&report);
                if acknowledge {
                    self.send(Down::StatusAck(v1::StatusAck { sequence: report.sequence })).await;
                }
            }
        }
    }

    /// Reads until the agent says that it is in step; statuses before it are acknowledged and kept.
    pub(crate) async fn until_synced(&mut self) -> u64 {
        loop {
            match self.next().await.expect("the session ended") {
                Up::Synced(synced) => return synced.sequence,
                Up::Statuses(report) => {
                    self.keep(&report);
                    self.send(Down::StatusAck(v1::StatusAck { sequence: report.sequence })).await;
                }
                _ => {}
            }
        }
    }

    fn keep(&mut self, report: &v1::StatusReport) {
        for report in &report.tasks {
            let status = report.status.clone().unwrap().try_into().unwrap();
            self.unread.push_back((report.task.parse().unwrap(), status));
        }
    }

    pub(crate) fn seen(&self, task: TaskId, state: TaskState) -> bool {
        self.unread.iter().any(|(who, status)| *who == task && status.state == state)
    }

    /// The status of a task in Hello.
    pub(crate) fn said(&self, task: TaskId) -> Option<TaskStatus> {
        let report = self.hello.tasks.iter().find(|report| report.task == task.to_string())?;
        Some(report.status.clone()?.try_into().unwrap())
    }
}
