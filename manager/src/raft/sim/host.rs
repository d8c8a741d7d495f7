//! One machine with a disk, on which a manager may run.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use coracle_disk::testing::CrashStorage;
use coracle_seal::KeyRing;
use coracle_wal::{Log, Options, Stepper};
use openraft::AsyncRuntime as _;
use openraft::async_runtime::{Select2, WatchReceiver as _};
use tokio::sync::{Notify, oneshot};

use super::ledger::Ledger;
use super::life::{DiskSpeed, Life};
use super::network::Network;
use super::runtime::{Clockwork, Simulated, sleep};
use super::state::State;
use crate::raft::files::Files;
use crate::raft::identity::Identity;
use crate::raft::node::Parts;
use crate::raft::{Limits, RaftNode, RaftStartError, RaftStatus};

/// Name of the simulated cluster.
const CLUSTER: &str = "simulated";

/// How long the log waits before it does what nobody waits for.
const IDLE: Duration = Duration::from_millis(20);

/// What all managers of a simulation are started with.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    pub(super) limits: Limits,
    pub(super) settings: openraft::Config,
    pub(super) log: Options,
}

/// A manager that runs.
#[derive(Debug, Clone)]
pub(super) struct Running {
    pub(super) node: RaftNode<Simulated>,
    pub(super) state: Arc<State>,
    pub(super) log: Arc<Log>,
    pub(super) life: Arc<Life>,
}

impl Running {
    /// Lets the process do something; the answer is nothing when the process ends before.
    pub(super) async fn ask<T, F>(&self, work: impl FnOnce(Self) -> F) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let work = work(self.clone());
        drop(self.life.spawn(async move {
            let _ = sender.send(work.await);
        }));
        receiver.await.ok()
    }

    pub(super) fn status(&self) -> RaftStatus {
        RaftStatus::from_metrics(&self.node.raft().metrics().borrow_watched())
    }
}

/// A machine.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) raft_id: u64,
    pub(super) disk: CrashStorage,
    pub(super) ring: KeyRing,
    pub(super) speed: Arc<DiskSpeed>,
    pub(super) running: Option<Running>,
    /// How often a manager was started here.
    pub(super) lives: u64,
    /// The number of changes of the disk at which the power goes.
    trap: Option<u64>,
}

impl Host {
    pub(super) fn new(raft_id: u64, seed: u64) -> Self {
        Self {
            raft_id,
            disk: CrashStorage::new(),
            ring: KeyRing::in_memory().unwrap(),
            speed: DiskSpeed::new(seed ^ raft_id.rotate_left(32)),
            running: None,
            lives: 0,
            trap: None,
        }
    }

    /// Starts a manager with what is on the disk.
    pub(super) async fn start(
        &mut self,
        setup: &Setup,
        network: &Network,
        ledger: &Arc<Ledger>,
    ) -> Result<(), RaftStartError> {
        self.lives += 1;
        let life = Life::new(self.speed.clone());
        let state = State::new(self.raft_id, ledger.clone());
        let (running, service) = life
            .spawn(open(
                self.raft_id,
                self.disk.clone(),
                self.ring.clone(),
                setup.clone(),
                state,
                network.clone(),
            ))
            .await
            .unwrap()
            .map(|(node, state, log)| {
                (Running { node: node.clone(), state, log, life: life.clone() }, node.service())
            })
            .inspect_err(|_| life.end())?;
        network.open(self.raft_id, service, life);
        self.running = Some(running);
        Ok(())
    }

    /// Ends the process; with the power, if `power` names a choice of what the disk keeps.
    pub(super) fn crash(&mut self, network: &Network, power: Option<u64>) {
        network.close(self.raft_id, power.is_some());
        let Some(running) = self.running.take() else { return };
        let disk = match power {
            Some(seed) => self.disk.after_power_loss(seed),
            None => self.disk.after_process_crash(),
        };
        // Nothing that the process does while it is taken apart reaches the disk.
        self.disk.fail_after(0);
        running.life.end();
        self.disk = disk;
        self.trap = None;
    }

    /// Lets the power go at the change of the disk after the next `changes`.
    pub(super) fn set_trap(&mut self, changes: u64) {
        self.trap = Some(self.disk.changes() + changes);
        self.disk.fail_after(changes);
    }

    /// The power stays.
    pub(super) fn clear_trap(&mut self) {
        if !self.is_trapped() && self.trap.take().is_some() {
            self.disk.fail_after(u64::MAX);
        }
    }

    /// Whether the power went.
    pub(super) fn is_trapped(&self) -> bool {
        self.trap.is_some_and(|trap| self.disk.changes() > trap)
    }

    /// A disk without anything on it.
    pub(super) fn wipe(&mut self) {
        self.disk = CrashStorage::new();
    }
}

async fn open(
    raft_id: u64,
    disk: CrashStorage,
    ring: KeyRing,
    setup: Setup,
    state: Arc<State>,
    network: Network,
) -> Result<(RaftNode<Simulated>, Arc<State>, Arc<Log>), RaftStartError> {
    let identity = Identity { cluster_id: CLUSTER.to_owned(), raft_id };
    sleep(Duration::from_millis(10)).await;
    let queued = Arc::new(Notify::new());
    let mut stepper = None;
    let files = Files::open_with(&disk, &ring, &identity, |storage| {
        let wake = queued.clone();
        let (log, writer) = Log::open_stepped(storage, ring.clone(), &setup.log, move || wake.notify_one())?;
        stepper = Some(writer);
        Ok(log)
    })?;
    if let Some(stepper) = stepper {
        drop(Clockwork::spawn(write_log(stepper, queued)));
    }
    let parts = Parts { identity, log: files.log.clone(), snapshots: files.snapshots, state: state.clone() };
    let node = RaftNode::take_part(setup.limits, setup.settings, network.connector(raft_id), parts).await?;
    Ok((node, state, files.log))
}

/// Does what the log's thread does.
async fn write_log(mut stepper: Stepper, queued: Arc<Notify>) {
    let disk = Life::current().map(|life| life.disk.clone());
    loop {
        let woken = Clockwork::select2(queued.notified(), sleep(IDLE)).await;
        if let Some(disk) = &disk {
            sleep(disk.next()).await;
        }
        match woken {
            Select2::First(()) => while stepper.step() {},
            Select2::Second(()) => {
                stepper.idle();
                // Nothing more to do until something is queued.
                queued.notified().await;
                queued.notify_one();
            }
        }
    }
}
