//! A node under test: its folder, its images, its containers, and agents that come and go on it.

use std::path::PathBuf;
use std::sync::Arc;

use coracle_daemon::SystemClock;
use coracle_image::ImageStore;
use coracle_image::builder::{ImageBuilder, LayerBuilder};
use coracle_model::digest::Digest;
use coracle_model::id::TaskId;
use coracle_model::node::NodeDescription;
use coracle_model::task::DesiredState;
use coracle_pki::SwappableIdentity;
use coracle_proto::v1;
use coracle_seal::KeyRing;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::manager::{DEADLINE, World};
use crate::adapters::containers::Containers;
use crate::adapters::fake::FakeContainers;
use crate::{Agent, AgentConfig, AgentHandle};

pub(crate) struct Node {
    pub(crate) folder: TempDir,
    pub(crate) identity: SwappableIdentity,
    pub(crate) keyring: Arc<KeyRing>,
    pub(crate) images: Arc<ImageStore>,
    pub(crate) containers: Arc<FakeContainers>,
    /// The image that tasks run.
    pub(crate) image: Digest,
}

pub(crate) struct RunningAgent {
    pub(crate) handle: AgentHandle,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

/// Bytes of a small image.
pub(crate) fn image_archive() -> Vec<u8> {
    let layer = LayerBuilder::new().directory("bin", 0o755).file("bin/program", 0o755, vec![7; 700_000]);
    let built = ImageBuilder::new().layer(layer).build().unwrap();
    let mut archive = Vec::new();
    built.write_archive(&mut archive).unwrap();
    archive
}

impl Node {
    pub(crate) fn new(world: &World, bits: u128) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let images = Arc::new(ImageStore::open(folder.path().join("images")).unwrap());
        let image = images.load_archive(&image_archive()[..]).unwrap()[0].manifest;
        Self {
            identity: world.worker(bits),
            keyring: Arc::new(KeyRing::in_memory().unwrap()),
            images,
            containers: FakeContainers::new(),
            image,
            folder,
        }
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.folder.path().join("agent/journal")
    }

    pub(crate) fn config(&self, managers: &[&str]) -> AgentConfig {
        AgentConfig {
            selinux_enabled: false,
            data_dir: self.folder.path().to_owned(),
            run_dir: self.folder.path().join("run"),
            identity: self.identity.clone(),
            keyring: Arc::clone(&self.keyring),
            images: Arc::clone(&self.images),
            containers: Arc::clone(&self.containers) as Arc<dyn Containers>,
            advertise_address: tokio::sync::watch::channel("127.0.0.1:1".to_owned()).1,
            managers: managers.iter().map(|&address| address.to_owned()).collect(),
            description: NodeDescription { hostname: "under-test".into(), ..NodeDescription::default() },
            clock: Arc::new(SystemClock::new()),
            image_grace: crate::IMAGE_GRACE,
        }
    }

    pub(crate) async fn start(&self, managers: &[&str]) -> RunningAgent {
        self.start_with(self.config(managers)).await
    }

    pub(crate) async fn start_with(&self, config: AgentConfig) -> RunningAgent {
        let agent = Agent::build(config).unwrap();
        let handle = agent.handle();
        let stop = CancellationToken::new();
        RunningAgent { handle, running: tokio::spawn(agent.run(stop.clone())), stop }
    }

    /// A task whose program does what its arguments say.
    pub(crate) fn task(&self, bits: u128, desired: DesiredState, args: &[&str]) -> v1::AssignedTask {
        v1::AssignedTask {
            id: TaskId::from_bits(bits).to_string(),
            service_id: coracle_model::id::ServiceId::from_bits(9).to_string(),
            service_name: "web".into(),
            spec_version: 1,
            slot: Some(v1::Slot { slot: Some(v1::slot::Slot::Number(1)) }),
            spec: Some(v1::TaskSpec {
                container: Some(v1::ContainerSpec {
                    image: Some(v1::PinnedImage {
                        reference: "web:1".into(),
                        digest: self.image.to_string(),
                    }),
                    args: args.iter().map(|&arg| arg.to_owned()).collect(),
                    stop_grace: Some(200_000_000),
                    ..v1::ContainerSpec::default()
                }),
                restart: Some(v1::RestartPolicy { delay: Some(10_000_000), ..v1::RestartPolicy::default() }),
                ..v1::TaskSpec::default()
            }),
            desired: desired.number().into(),
            ..v1::AssignedTask::default()
        }
    }
}

impl RunningAgent {
    /// Ends as a daemon does that is asked to.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(DEADLINE, self.running).await.expect("the agent did not end").unwrap();
    }
}

/// Waits for a condition.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}
