//! The agent with the real runtime: needs root and a static busybox.
#![allow(clippy::print_stderr, reason = "tests print why they skip, and figures")]

use std::path::Path;
use std::sync::Arc;

use coracle_agent_runtime::{Runtime, RuntimeConfig};
use coracle_image::ImportChange;
use coracle_image::builder::{ImageBuilder, LayerBuilder};
use coracle_model::digest::Digest;
use coracle_model::id::TaskId;
use coracle_model::task::{DesiredState, Exit, TaskState};
use coracle_proto::v1;
use coracle_proto::v1::manager_message::Message as Down;
use tokio_util::sync::CancellationToken;

use super::manager::{FakeManager, World};
use super::rig::{Node, eventually};
use crate::Agent;
use crate::adapters::containers::{Containers, Reality};
use crate::adapters::runtime::RuntimeContainers;

const RUNNING: DesiredState = DesiredState::Running;
const BUSYBOX: &str = "/bin/busybox";

fn id(bits: u128) -> TaskId {
    TaskId::from_bits(bits)
}

fn open(node: &Node, cgroup: &str) -> Arc<Runtime> {
    let folder = node.folder.path();
    let config = RuntimeConfig::new(folder.join("containers"), folder.join("run"), cgroup.to_owned());
    Arc::new(Runtime::open(config).unwrap())
}

fn shell_image(node: &Node) -> Digest {
    let busybox = std::fs::read(BUSYBOX).unwrap();
    let layer = LayerBuilder::new().directory("bin", 0o755).file("bin/sh", 0o755, busybox);
    let command = ImportChange::Command(vec!["/bin/sh".into()]);
    let built = ImageBuilder::new().layer(layer).change(command).build().unwrap();
    let mut archive = Vec::new();
    built.write_archive(&mut archive).unwrap();
    node.images.load_archive(&archive[..]).unwrap()[0].manifest
}

/// Leaves nothing behind, whatever happened.
struct Cleanup<'a> {
    node: &'a Node,
    cgroup: String,
}

impl Drop for Cleanup<'_> {
    fn drop(&mut self) {
        let runtime = open(self.node, &self.cgroup);
        for container in runtime.list() {
            if let Err(error) = runtime.delete(&container.id) {
                eprintln!("left behind: {error}");
            }
        }
        runtime.remove_shared_cgroups();
    }
}

struct Real {
    containers: Arc<RuntimeContainers>,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

impl Real {
    fn start(node: &Node, cgroup: &str, manager: &str) -> Self {
        let containers = Arc::new(RuntimeContainers::new(open(node, cgroup)));
        let mut config = node.config(&[manager]);
        config.containers = Arc::clone(&containers) as Arc<dyn Containers>;
        let agent = Agent::build(config).unwrap();
        let stop = CancellationToken::new();
        Self { containers, running: tokio::spawn(agent.run(stop.clone())), stop }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.running.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_containers_run_are_left_alone_by_restarts_and_leave_nothing() {
    let root =
        std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    if !root || !Path::new(BUSYBOX).exists() {
        eprintln!("SKIPPED: needs root and {BUSYBOX}");
        return;
    }
    let world = World::new();
    let mut node = Node::new(&world, 7);
    node.image = shell_image(&node);
    let cgroup = format!("coracle-worker-test-{}", std::process::id());
    let _cleanup = Cleanup { node: &node, cgroup: cgroup.clone() };
    let mut manager = FakeManager::start(&world, 1).await;
    let agent = Real::start(&node, &cgroup, &manager.address);
    let mut session = manager.welcomed(&world).await;

    let shell = |bits, script: &str| node.task(bits, RUNNING, &["/bin/sh", "-c", script]);
    let mut bound = shell(5, "true");
    bound.spec.as_mut().unwrap().container.as_mut().unwrap().mounts = vec![v1::Mount {
        target: "/data".into(),
        read_only: false,
        kind: Some(v1::mount::Kind::Bind(v1::BindMount {
            source: "/does/not/exist".into(),
            ..Default::default()
        })),
    }];
    let check = |task: &mut v1::AssignedTask, line: &str| {
        let test = Some(v1::health_config::Test::Shell(line.into()));
        task.spec.as_mut().unwrap().container.as_mut().unwrap().health = Some(v1::HealthConfig {
            test,
            interval: Some(20_000_000),
            timeout: Some(20_000_000_000),
            ..v1::HealthConfig::default()
        });
    };
    let serve = "mkdir /state; while true; do read -t 1 x < /dev/zero; done";
    let (mut healthy, mut unhealthy) = (shell(6, serve), shell(7, serve));
    check(&mut healthy, "test -d /state || cd /state");
    check(&mut unhealthy, "cd /nowhere");
    let mut tasks = vec![
        healthy,
        unhealthy,
        shell(1, "trap 'exit 0' TERM; echo hello; while true; do read -t 1 x < /dev/zero; done"),
        shell(2, "echo out; echo err >&2; exit 3"),
        shell(3, "exit 0"),
        node.task(4, RUNNING, &["/bin/nope"]),
        bound,
    ];
    tasks.extend((10..30).map(|bits| shell(bits, "exit 0")));
    let begun = std::time::Instant::now();
    session.complete(&tasks).await;
    for bits in 10..30 {
        session.until(id(bits), TaskState::Complete, true).await;
    }
    eprintln!("25 tasks in {:?}", begun.elapsed());
    let running = session.until(id(1), TaskState::Running, true).await;
    assert!(running.pid > 1);
    assert_eq!(session.until(id(2), TaskState::Failed, true).await.exit, Some(Exit::Code(3)));
    session.until(id(3), TaskState::Complete, true).await;
    let missing = session.until(id(4), TaskState::Failed, true).await;
    assert!(missing.error.contains("/bin/nope"), "{}", missing.error);
    let refused = session.until(id(5), TaskState::Rejected, true).await;
    assert!(refused.error.contains("/does/not/exist"), "{}", refused.error);

    let healthy = session.until(id(6), TaskState::Running, true).await;
    assert_eq!(healthy.health.unwrap().results.last().unwrap().code, Some(0));
    let unhealthy = session.until(id(7), TaskState::Failed, true).await;
    assert!(
        unhealthy.error.starts_with("unhealthy: ") && unhealthy.error.contains("/nowhere"),
        "{unhealthy:?}"
    );

    // The log outlives the container.
    eventually("the ended container is deleted", || agent.containers.inspect(id(2)) == Reality::Absent).await;
    let ask = v1::LogSubscription {
        id: "s".into(),
        tasks: vec![id(2).to_string()],
        follow: true,
        tail: -1,
        since: 0,
    };
    session.send(Down::SubscribeLogs(ask)).await;
    let mut lines = Vec::new();
    while lines.len() < 2 {
        let chunk =
            tokio::time::timeout(super::manager::DEADLINE, manager.logs.recv()).await.unwrap().unwrap();
        lines.extend(chunk.lines.into_iter().map(|line| (line.stream, line.text)));
    }
    lines.sort();
    assert_eq!(lines, [(1, "out".into()), (2, "err".into())]);

    // Another agent: the container is the same process; then it is asked to stop and obeys.
    agent.stop().await;
    drop(session);
    let agent = Real::start(&node, &cgroup, &manager.address);
    let mut session = manager.welcomed(&world).await;
    assert_eq!(session.said(id(1)).unwrap().pid, running.pid);
    assert_eq!(session.said(id(6)).unwrap().pid, healthy.pid);
    session.complete(&tasks[2..3]).await;
    session.until_synced().await;
    assert_eq!(agent.containers.inspect(id(1)), Reality::Running { pid: running.pid });
    let mut stop = tasks[2].clone();
    stop.desired = DesiredState::Shutdown.number().into();
    session.increment(&[stop], &[]).await;
    let stopped = session.until(id(1), TaskState::Shutdown, true).await;
    assert!(matches!(stopped.exit, Some(Exit::Code(_) | Exit::Signal(_))), "{stopped:?}");
    session.increment(&[], &[id(1)]).await;
    eventually("nothing is left", || agent.containers.recover().unwrap().is_empty()).await;
    agent.stop().await;
}
