//! A worker receives what its own tasks need, and what it says counts for its own tasks only.

use std::collections::BTreeSet;
use std::time::Duration;

use coracle_manager_core::Change;
use coracle_model::digest::Digest;
use coracle_model::id::{NodeId, TaskId};
use coracle_model::image::ImageEntry;
use coracle_model::node::{NodeState, Platform};
use coracle_model::role::Role;
use coracle_model::task::TaskState;
use coracle_model::time::Timestamp;
use coracle_model::version::Version;
use coracle_pki::Subject;
use coracle_proto::v1;
use coracle_proto::v1::agent_message::Message as Up;
use coracle_proto::v1::dispatcher_client::DispatcherClient;
use coracle_proto::v1::manager_message::Message as Down;
use coracle_proto::v1::services_client::ServicesClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

use crate::world::{PATIENCE, World};

/// An agent that keeps everything it is ever sent.
pub(crate) struct Agent {
    pub(crate) node: NodeId,
    client: DispatcherClient<Channel>,
    up: mpsc::Sender<v1::AgentMessage>,
    down: Streaming<v1::ManagerMessage>,
    /// Everything, as text.
    received: String,
    tasks: BTreeSet<TaskId>,
    subscriptions: Vec<v1::LogSubscription>,
    acknowledged: u64,
}

fn image(number: u8) -> Digest {
    Digest::from_bytes([number; 32])
}

impl Agent {
    /// An agent whose session is open.
    pub(crate) async fn connected(world: &World, hostname: &str) -> Self {
        let mut agent = Self::join(world, hostname).await;
        agent.until("it is welcome", |agent| agent.received.contains("Welcome")).await;
        agent
    }

    async fn join(world: &World, hostname: &str) -> Self {
        let node = world.add_node(hostname, Role::Worker, None).await;
        let credentials = world.credentials(Subject::Worker(node));
        let mut client = DispatcherClient::new(world.channel(Some(&credentials)));
        let (up, down) = Self::open(&mut client, hostname).await;
        Self {
            node,
            client,
            up,
            down,
            received: String::new(),
            tasks: BTreeSet::new(),
            subscriptions: Vec::new(),
            acknowledged: 0,
        }
    }

    /// Opens a session; one that is open ends.
    async fn open(
        client: &mut DispatcherClient<Channel>,
        hostname: &str,
    ) -> (mpsc::Sender<v1::AgentMessage>, Streaming<v1::ManagerMessage>) {
        let (up, requests) = mpsc::channel(64);
        let hello = v1::Hello {
            description: Some(v1::NodeDescription {
                hostname: hostname.to_owned(),
                platform: Some(v1::Platform { os: "linux".to_owned(), architecture: "amd64".to_owned() }),
                resources: Some(v1::Resources { nano_cpus: 4_000_000_000, memory_bytes: 8 << 30 }),
                ..v1::NodeDescription::default()
            }),
            address: "127.0.0.1:9".to_owned(),
            tasks: Vec::new(),
            images: Some(v1::HeldImages { digests: vec![image(1).to_string(), image(2).to_string()] }),
        };
        up.send(v1::AgentMessage { message: Some(Up::Hello(hello)) }).await.unwrap();
        let down = client.session(ReceiverStream::new(requests)).await.unwrap().into_inner();
        (up, down)
    }

    /// Begins another session, as after a link that was cut.
    async fn reopen(&mut self, hostname: &str) {
        (self.up, self.down) = Self::open(&mut self.client, hostname).await;
    }

    async fn send(&self, message: Up) {
        self.up.send(v1::AgentMessage { message: Some(message) }).await.unwrap();
    }

    /// Takes what comes until it is as wanted; says it is alive meanwhile.
    async fn until(&mut self, what: &str, mut wanted: impl FnMut(&Self) -> bool) {
        let end = tokio::time::Instant::now() + PATIENCE;
        while !wanted(self) {
            assert!(tokio::time::Instant::now() < end, "{}: not in time: {what}", self.node);
            match tokio::time::timeout(Duration::from_millis(200), self.down.message()).await {
                Ok(message) => self.take(message.unwrap().expect("the session goes on")).await,
                Err(_) => self.send(Up::Heartbeat(v1::Heartbeat {})).await,
            }
        }
    }

    async fn take(&mut self, message: v1::ManagerMessage) {
        use std::fmt::Write as _;
        writeln!(self.received, "{message:?}").unwrap();
        match message.message {
            Some(Down::Assignments(assignments)) => {
                self.tasks.extend(assignments.set.iter().map(|task| task.id.parse::<TaskId>().unwrap()));
                self.send(Up::Synced(v1::Synced { sequence: assignments.sequence })).await;
            }
            Some(Down::SubscribeLogs(subscription)) => self.subscriptions.push(subscription),
            Some(Down::StatusAck(ack)) => self.acknowledged = ack.sequence,
            _ => {}
        }
    }

    async fn report(&self, sequence: u64, task: TaskId, state: TaskState) {
        let status = v1::TaskStatus { state: state.number().into(), ..v1::TaskStatus::default() };
        let report = v1::TaskReport { task: task.to_string(), status: Some(status) };
        self.send(Up::Statuses(v1::StatusReport { sequence, tasks: vec![report] })).await;
    }

    async fn ask_for_image(&mut self, digest: Digest) -> Result<v1::RequestImageResponse, Code> {
        let request = v1::RequestImageRequest { digest: digest.to_string() };
        self.client
            .request_image(request)
            .await
            .map(tonic::Response::into_inner)
            .map_err(|status| status.code())
    }

    async fn publish(&mut self, subscription: &str, task: TaskId, times: &[u64]) -> Result<(), Code> {
        let line = |time: &u64| v1::LogLine {
            task: task.to_string(),
            time: *time,
            stream: 1,
            text: "forged".into(),
            ..v1::LogLine::default()
        };
        let chunk =
            v1::LogChunk { subscription: subscription.to_owned(), lines: times.iter().map(line).collect() };
        let published = self.client.publish_logs(tokio_stream::iter([chunk])).await;
        published.map(drop).map_err(|status| status.code())
    }
}

async fn create_service(world: &World, name: &str, host: &str, secret: &str) {
    let container = v1::ContainerSpec {
        image: Some(v1::PinnedImage { reference: format!("{name}:1"), digest: String::new() }),
        env: vec![format!("PASSWORD={secret}")],
        mounts: vec![v1::Mount {
            target: "/files".into(),
            kind: Some(v1::mount::Kind::Image(v1::ImageMount {
                image: Some(v1::PinnedImage { reference: format!("{name}-files:1"), digest: String::new() }),
                subpath: String::new(),
            })),
            ..v1::Mount::default()
        }],
        ..v1::ContainerSpec::default()
    };
    let placement =
        v1::Placement { constraints: vec![format!("node.hostname=={host}")], ..v1::Placement::default() };
    let task =
        v1::TaskSpec { container: Some(container), placement: Some(placement), ..v1::TaskSpec::default() };
    let spec = v1::ServiceSpec {
        name: name.to_owned(),
        labels: [("owner".to_owned(), format!("owner-of-{name}"))].into(),
        mode: Some(v1::service_spec::Mode::Replicated(v1::Replicated { replicas: 2 })),
        task: Some(task),
        ..v1::ServiceSpec::default()
    };
    let mut services = ServicesClient::new(world.channel(Some(&world.operator())));
    let request = v1::CreateServiceRequest { spec: Some(spec), idempotency_key: String::new() };
    services.create(request).await.unwrap();
}

async fn put_image(world: &World, name: &str, digest: Digest) {
    let entry = ImageEntry {
        name: format!("docker.io/library/{name}:1"),
        version: Version::default(),
        digest,
        size: 1,
        platform: Platform { os: "linux".to_owned(), architecture: "amd64".to_owned() },
        created_at: Timestamp::EPOCH,
    };
    world.write(vec![Change::PutImage(entry)]).await;
}

/// Two workers with two tasks each, of one service each.
async fn two_workers(world: &World) -> (Agent, Agent) {
    put_image(world, "red", image(1)).await;
    put_image(world, "blue", image(2)).await;
    put_image(world, "red-files", image(3)).await;
    put_image(world, "blue-files", image(4)).await;
    let (mut one, mut two) = (Agent::join(world, "w1").await, Agent::join(world, "w2").await);
    one.until("it is welcome", |agent| agent.received.contains("Welcome")).await;
    two.until("it is welcome", |agent| agent.received.contains("Welcome")).await;
    create_service(world, "red", "w1", "canary-of-red").await;
    create_service(world, "blue", "w2", "canary-of-blue").await;
    one.until("it has its tasks", |agent| agent.tasks.len() == 2).await;
    two.until("it has its tasks", |agent| agent.tasks.len() == 2).await;
    (one, two)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_receives_what_its_own_tasks_need() {
    let world = World::new().await;
    let (mut one, mut two) = two_workers(&world).await;
    let view = world.store.view();
    for agent in [&one, &two] {
        assert!(agent.tasks.iter().all(|task| view.task(*task).unwrap().node == Some(agent.node)));
    }
    assert!(one.tasks.is_disjoint(&two.tasks));
    // Nothing of the other's, in whatever message it came.
    let of_blue: Vec<String> = two.tasks.iter().map(ToString::to_string).collect();
    let of_blue = of_blue.iter().map(String::as_str).chain(["canary-of-blue", "owner-of-blue"]);
    for word in of_blue.chain([image(2).to_string().as_str()]) {
        assert!(!one.received.contains(word), "w1 has received {word}");
        assert!(two.received.contains(word), "the search would find {word}");
    }
    // Tickets: for its own images only, and in its own name.
    let ticket = one.ask_for_image(image(1)).await.unwrap();
    assert!(ticket.sources.iter().all(|source| source.node_id == two.node.to_string()));
    assert_eq!(one.ask_for_image(image(2)).await.unwrap_err(), Code::PermissionDenied);
    assert_eq!(two.ask_for_image(image(1)).await.unwrap_err(), Code::PermissionDenied);
    assert_eq!(one.ask_for_image(image(5)).await.unwrap_err(), Code::PermissionDenied, "of nobody's");
    // So it is with what their tasks mount.
    one.ask_for_image(image(3)).await.unwrap();
    assert_eq!(two.ask_for_image(image(3)).await.unwrap_err(), Code::PermissionDenied);
    two.ask_for_image(image(4)).await.unwrap();
    assert!(view.is_image_used(image(4)) && !view.is_image_used(image(5)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_worker_says_of_others_tasks_is_of_no_effect() {
    let world = World::new().await;
    let (mut one, two) = two_workers(&world).await;
    let (own, foreign) = (*one.tasks.first().unwrap(), *two.tasks.first().unwrap());
    one.report(1, foreign, TaskState::Failed).await;
    one.report(2, own, TaskState::Running).await;
    one.until("its reports are written", |agent| agent.acknowledged == 2).await;
    let view = world.store.view();
    assert_eq!(view.task(own).unwrap().status.state, TaskState::Running);
    assert!(view.task(foreign).unwrap().status.state < TaskState::Running, "{:?}", view.task(foreign));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_worker_says_again_is_not_written_again() {
    const TIMES: u64 = 50;
    let world = World::new().await;
    let (mut one, two) = two_workers(&world).await;
    let (own, foreign) = (*one.tasks.first().unwrap(), *two.tasks.first().unwrap());
    one.report(1, own, TaskState::Complete).await;
    one.until("its report is written", |agent| agent.acknowledged == 1).await;
    let before = world.store.view().index();
    for sequence in 2..2 + TIMES {
        one.report(sequence, if sequence % 2 == 0 { own } else { foreign }, TaskState::Complete).await;
        one.until("its report is answered", |agent| agent.acknowledged == sequence).await;
    }
    // The managers themselves write a little meanwhile.
    let written = world.store.view().index() - before;
    assert!(written < TIMES / 2, "{written} entries for {TIMES} reports that say nothing new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_are_asked_of_and_taken_from_the_tasks_own_node() {
    let world = World::new().await;
    let (mut one, mut two) = two_workers(&world).await;
    for agent in [&mut one, &mut two] {
        for task in agent.tasks.clone() {
            agent.report(1, task, TaskState::Running).await;
        }
        agent.until("its report is written", |agent| agent.acknowledged == 1).await;
    }
    let mut services = ServicesClient::new(world.channel(Some(&world.operator())));
    let request = v1::ServiceLogsRequest { target: "red".to_owned(), follow: true, tail: -1, since: 0 };
    let mut lines = services.logs(request).await.unwrap().into_inner();
    one.until("it is asked for its lines", |agent| !agent.subscriptions.is_empty()).await;
    let subscription = one.subscriptions[0].clone();
    assert!(subscription.tasks.iter().all(|task| one.tasks.contains(&task.parse().unwrap())));
    let (own, foreign) = (*one.tasks.first().unwrap(), *two.tasks.first().unwrap());
    assert_eq!(two.publish(&subscription.id, foreign, &[7]).await.unwrap_err(), Code::NotFound);
    assert_eq!(two.publish(&subscription.id, own, &[7]).await.unwrap_err(), Code::NotFound);
    assert_eq!(one.publish(&subscription.id, foreign, &[7]).await.unwrap_err(), Code::PermissionDenied);
    one.publish(&subscription.id, own, &[7]).await.unwrap();
    let mut got = Vec::new();
    while got.is_empty() {
        let chunk = tokio::time::timeout(PATIENCE, lines.message()).await.unwrap().unwrap().unwrap();
        got.extend(chunk.lines);
    }
    assert!(got.iter().all(|line| line.task == own.to_string()), "{got:?}");
    assert!(two.subscriptions.is_empty());
    // Another session of the node knows nothing of what it was asked. It begins with lines that came already.
    one.reopen("w1").await;
    let is_again = |subscription: &&v1::LogSubscription| subscription.since == 7;
    one.until("it is asked again", |agent| agent.subscriptions.iter().any(|s| is_again(&s))).await;
    let again = one.subscriptions.iter().find(is_again).unwrap().clone();
    assert_eq!((again.tasks, again.follow, again.tail), (vec![own.to_string()], true, -1));
    one.publish(&again.id, own, &[7, 8]).await.unwrap();
    let chunk = tokio::time::timeout(PATIENCE, lines.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(chunk.lines.iter().map(|line| line.time).collect::<Vec<_>>(), [8]);
}

/// An agent that is asked before it has heard of a task has no lines of it, and says that it is done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_of_a_task_are_asked_for_once_its_agent_has_spoken_of_it() {
    let world = World::new().await;
    let (mut one, _two) = two_workers(&world).await;
    let mut services = ServicesClient::new(world.channel(Some(&world.operator())));
    let request = v1::ServiceLogsRequest { target: "red".to_owned(), follow: true, tail: 0, since: 0 };
    let _lines = services.logs(request).await.unwrap().into_inner();
    let task = *one.tasks.first().unwrap();
    one.report(1, task, TaskState::Running).await;
    one.until("it is asked for its lines", |agent| !agent.subscriptions.is_empty()).await;
    let subscription = &one.subscriptions[0];
    assert_eq!(subscription.tasks, [task.to_string()], "of the other it has not spoken");
    assert_eq!(subscription.tail, -1, "all of a task that began later");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_is_limited_by_where_it_comes_from() {
    use coracle_proto::v1::certificate_authority_client::CertificateAuthorityClient;
    let world = World::new().await;
    let wrong = || v1::IssueRequest { token_secret: vec![9; 16].into(), ..v1::IssueRequest::default() };
    let mut codes = BTreeSet::new();
    // With a handshake for each, a busy machine guesses more slowly than is allowed. Who guesses is cut off now and then.
    let mut client = CertificateAuthorityClient::new(world.channel(None));
    for _ in 0..1000 {
        match client.issue(wrong()).await.unwrap_err().code() {
            Code::Cancelled => client = CertificateAuthorityClient::new(world.channel(None)),
            code => {
                codes.insert(format!("{code:?}"));
            }
        }
        if codes.contains("ResourceExhausted") {
            break;
        }
    }
    assert_eq!(codes.into_iter().collect::<Vec<_>>(), ["ResourceExhausted", "Unauthenticated"]);
    // A manager passes on joins from elsewhere: those are not kept out by the one that guesses.
    let peer = world.credentials(Subject::Manager(world.manager));
    let mut client = CertificateAuthorityClient::new(world.channel(Some(&peer)));
    let mut forwarded = tonic::Request::new(wrong());
    let from = coracle_rpc::caller::ForwardedCaller::Stranger(Some("192.0.2.7".parse().unwrap()));
    forwarded.metadata_mut().insert(coracle_rpc::caller::FORWARDED_HEADER, from.encode().parse().unwrap());
    assert_eq!(
        client.issue(forwarded).await.unwrap_err().code(),
        Code::Unauthenticated,
        "the token is wrong"
    );
    world.eventually("no node came of it", |state| state.nodes().count() == 1).await;
    assert!(world.store.view().nodes().all(|node| node.status.state != NodeState::Down));
}
