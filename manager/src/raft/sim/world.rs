//! A simulated cluster: machines, network, clients' history, and the watch over all of it.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coracle_disk::testing::Seeded;
use coracle_history::History;
use openraft::AsyncRuntime as _;
use openraft::async_runtime::{Select2, WatchReceiver as _};

use super::host::{Host, Running, Setup};
use super::invariants::{Invariant, Look, Sight, all};
use super::ledger::Ledger;
use super::life::lock;
use super::network::Network;
use super::runtime::{Clockwork, now, sleep};
use crate::raft::RaftStartError;

/// How often the cluster is looked at.
const TICK: Duration = Duration::from_millis(10);

/// Longest wait of an administrator for one request.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Events kept for the report of a failure.
const REMEMBERED: usize = 60;

/// What machines and clients share.
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) setup: Setup,
    pub(super) network: Network,
    pub(super) ledger: Arc<Ledger>,
    pub(super) history: Mutex<History<u64, u64>>,
    pub(super) clients_stop: AtomicBool,
    /// How many clients are at work.
    pub(super) clients: AtomicU64,
    next_value: AtomicU64,
    hosts: Mutex<BTreeMap<u64, Host>>,
    seeded: Mutex<Seeded>,
    events: Mutex<Events>,
}

#[derive(Default)]
struct Events {
    hasher: DefaultHasher,
    last: VecDeque<String>,
}

impl World {
    pub(super) fn new(seed: u64, setup: Setup) -> Arc<Self> {
        Arc::new(Self {
            seed,
            setup,
            network: Network::new(seed ^ 0x6e65_7477),
            ledger: Arc::default(),
            history: Mutex::default(),
            clients_stop: AtomicBool::new(false),
            clients: AtomicU64::new(0),
            next_value: AtomicU64::new(1),
            hosts: Mutex::default(),
            seeded: Mutex::new(Seeded::new(seed)),
            events: Mutex::default(),
        })
    }

    /// A number below `limit`, decided by the seed.
    pub(super) fn below(&self, limit: u64) -> u64 {
        lock(&self.seeded).below(limit)
    }

    /// One of these.
    pub(super) fn choose<T: Copy>(&self, from: &[T]) -> Option<T> {
        from.get(self.below(from.len() as u64) as usize).copied()
    }

    /// A value that was never written.
    pub(super) fn fresh_value(&self) -> u64 {
        self.next_value.fetch_add(1, Ordering::Relaxed)
    }

    /// Something happened: part of the trace that must be the same for the same seed.
    pub(super) fn note(&self, event: String) {
        let event = format!("{:>10.3} ms {event}", now().as_secs_f64() * 1000.0);
        let mut events = lock(&self.events);
        event.hash(&mut events.hasher);
        if events.last.len() == REMEMBERED {
            events.last.pop_front();
        }
        events.last.push_back(event);
    }

    /// A number that stands for all that happened.
    pub(super) fn trace(&self) -> u64 {
        lock(&self.events).hasher.finish()
    }

    /// The last events, one per line.
    pub(super) fn story(&self) -> String {
        lock(&self.events).last.iter().map(|event| format!("{event}\n")).collect()
    }

    /// Works on a machine, which is made when it is new.
    pub(super) fn host<T>(&self, raft_id: u64, work: impl FnOnce(&mut Host) -> T) -> T {
        let mut hosts = lock(&self.hosts);
        work(hosts.entry(raft_id).or_insert_with(|| Host::new(raft_id, self.seed)))
    }

    /// All machines.
    pub(super) fn hosts(&self) -> Vec<u64> {
        lock(&self.hosts).keys().copied().collect()
    }

    /// The manager on a machine, if one runs.
    pub(super) fn running(&self, raft_id: u64) -> Option<Running> {
        lock(&self.hosts).get(&raft_id)?.running.clone()
    }

    /// All managers that run.
    pub(super) fn all_running(&self) -> Vec<(u64, Running)> {
        lock(&self.hosts)
            .iter()
            .filter_map(|(raft_id, host)| Some((*raft_id, host.running.clone()?)))
            .collect()
    }

    /// Starts a manager on a machine.
    pub(super) async fn try_start(&self, raft_id: u64) -> Result<(), RaftStartError> {
        self.note(format!("manager {raft_id} starts"));
        self.host(raft_id, |_| ());
        let taken = lock(&self.hosts).remove(&raft_id);
        let Some(mut host) = taken else { return Ok(()) };
        let started = host.start(&self.setup, &self.network, &self.ledger).await;
        lock(&self.hosts).insert(raft_id, host);
        started
    }

    /// Starts a manager; it must come up.
    pub(super) async fn start(&self, raft_id: u64) {
        if let Err(error) = self.try_start(raft_id).await {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            self.ledger.complain(format!("manager {raft_id} refused to start: {error}: {cause}"));
        }
    }

    /// Ends a manager without a last word; with the power, if `power`.
    pub(super) fn crash(&self, raft_id: u64, power: bool) {
        self.note(format!("manager {raft_id} {}", if power { "loses power" } else { "is killed" }));
        let choice = power.then(|| self.below(u64::MAX));
        self.host(raft_id, |host| host.crash(&self.network, choice));
    }

    /// The manager that leads in the highest term, if one does.
    pub(super) fn leader(&self) -> Option<u64> {
        let leading = self.all_running().into_iter().map(|(raft_id, running)| (raft_id, running.status()));
        leading
            .filter(|(_, status)| status.is_leader())
            .max_by_key(|(_, status)| status.term)
            .map(|(raft_id, _)| raft_id)
    }
}

/// Looks after a world while something goes on in it.
pub(super) struct Watch {
    pub(super) world: Arc<World>,
    invariants: Vec<Box<dyn Invariant>>,
    ticks: u64,
}

impl Watch {
    pub(super) fn new(world: Arc<World>) -> Self {
        Self { world, invariants: all(), ticks: 0 }
    }

    /// Lets time pass while a task runs; returns what it returns.
    pub(super) async fn during<T: Send + 'static>(
        &mut self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, String> {
        let mut task = Clockwork::spawn(task);
        loop {
            match Clockwork::select2(&mut task, sleep(TICK)).await {
                Select2::First(Ok(result)) => return Ok(result),
                Select2::First(Err(error)) => return Err(error.to_string()),
                Select2::Second(()) => self.look()?,
            }
        }
    }

    /// Lets time pass.
    pub(super) async fn wait(&mut self, duration: Duration) -> Result<(), String> {
        let until = now() + duration;
        while now() < until {
            sleep(TICK.min(until - now())).await;
            self.look()?;
        }
        Ok(())
    }

    /// Lets time pass until something is so.
    pub(super) async fn until(
        &mut self,
        what: &str,
        limit: Duration,
        mut is_so: impl FnMut(&World) -> bool,
    ) -> Result<Duration, String> {
        let start = now();
        while !is_so(&self.world) {
            if now() - start > limit {
                let statuses: Vec<_> =
                    self.world.all_running().into_iter().map(|(_, running)| running.status()).collect();
                return Err(format!("{what}: not within {limit:?}: {statuses:#?}"));
            }
            sleep(TICK).await;
            self.look()?;
        }
        Ok(now() - start)
    }

    /// Takes the power from machines whose time has come, and checks that all is right.
    pub(super) fn look(&mut self) -> Result<(), String> {
        let world = &self.world;
        for raft_id in world.hosts() {
            if world.host(raft_id, |host| host.is_trapped()) {
                world.crash(raft_id, true);
            }
        }
        let sights: Vec<_> = world
            .all_running()
            .into_iter()
            .map(|(raft_id, running)| {
                let life = world.host(raft_id, |host| host.lives);
                let metrics = running.node.raft().metrics().borrow_watched().clone();
                Sight { raft_id, life, metrics, running }
            })
            .collect();
        for sight in &sights {
            if sight.running.life.panicked() {
                return Err(format!("a task of manager {} panicked", sight.raft_id));
            }
            let failed = sight.metrics.running_state.as_ref().err().filter(|_| {
                // A manager whose disk fails has to stop; it is taken away above.
                !world.host(sight.raft_id, |host| host.is_trapped())
            });
            if let Some(failed) = failed {
                return Err(format!("manager {} stopped: {failed}", sight.raft_id));
            }
        }
        self.ticks += 1;
        let look = Look { world, sights, tick: self.ticks };
        for invariant in &mut self.invariants {
            invariant.check(&look)?;
        }
        match world.ledger.complaint().or_else(|| world.network.double_vote()) {
            Some(complaint) => Err(complaint),
            None => Ok(()),
        }
    }
}
