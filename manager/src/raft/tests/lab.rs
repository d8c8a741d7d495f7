//! Managers in one process, talking over loopback.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use coracle_seal::KeyRing;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Server};
use tonic::{Request, Status};

use crate::raft::{
    ConnectError, Limits, PeerConnector, RaftConfig, RaftError, RaftNode, RaftStatus, ReplicatedState,
    SnapshotView, endpoint,
};

/// Longest wait for anything.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A state that is the list of all commands.
#[derive(Debug, Default)]
pub(super) struct ListState {
    list: Mutex<Vec<(u64, Bytes)>>,
    restored: Mutex<u64>,
}

impl ListState {
    pub(super) fn commands(&self) -> Vec<Bytes> {
        self.list.lock().unwrap().iter().map(|(_, command)| command.clone()).collect()
    }

    /// How often it was restored from a snapshot.
    pub(super) fn restored(&self) -> u64 {
        *self.restored.lock().unwrap()
    }
}

impl ReplicatedState for ListState {
    fn apply(&self, index: u64, _term: u64, command: &[u8]) -> Bytes {
        let mut list = self.list.lock().unwrap();
        assert!(list.last().is_none_or(|(last, _)| *last < index), "entry {index} was applied twice");
        list.push((index, Bytes::copy_from_slice(command)));
        Bytes::from(list.len().to_string())
    }

    fn batch_applied(&self, _index: u64, _term: u64) {}

    fn snapshot(&self) -> SnapshotView {
        let list = self.list.lock().unwrap().clone();
        Box::new(move |writer: &mut dyn Write| {
            for (index, command) in list {
                writer.write_all(&index.to_le_bytes())?;
                writer.write_all(&(command.len() as u64).to_le_bytes())?;
                writer.write_all(&command)?;
            }
            Ok(())
        })
    }

    fn restore(&self, _index: u64, _term: u64, reader: &mut dyn Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes)?;
        let mut bytes = Bytes::from(bytes);
        let mut list = Vec::new();
        while !bytes.is_empty() {
            use bytes::Buf as _;
            let (index, length) = (bytes.get_u64_le(), bytes.get_u64_le());
            list.push((index, bytes.split_to(length as usize)));
        }
        *self.list.lock().unwrap() = list;
        *self.restored.lock().unwrap() += 1;
        Ok(())
    }
}

/// Managers that are cut off: no new call reaches or leaves them.
type CutOff = Arc<Mutex<BTreeSet<u64>>>;

struct PlainConnector {
    from: u64,
}

impl PeerConnector for PlainConnector {
    fn channel(&self, _raft_id: u64, address: &str) -> Result<Channel, ConnectError> {
        let endpoint = endpoint(format!("http://{address}").parse()?);
        Ok(endpoint.user_agent(format!("manager-{}", self.from))?.connect_lazy())
    }
}

/// A running manager.
pub(super) struct Manager {
    pub(super) node: RaftNode,
    pub(super) state: Arc<ListState>,
    server: JoinHandle<()>,
    stop: tokio::sync::oneshot::Sender<()>,
}

impl Manager {
    pub(super) fn status(&self) -> RaftStatus {
        self.node.status().borrow().clone()
    }

    /// Waits until the status is as wanted.
    pub(super) async fn eventually(&self, what: &str, wanted: impl FnMut(&RaftStatus) -> bool) -> RaftStatus {
        let mut status = self.node.status();
        match tokio::time::timeout(PATIENCE, status.wait_for(wanted)).await {
            Ok(Ok(status)) => return status.clone(),
            Ok(Err(_)) => panic!("{what}: Raft stopped"),
            Err(_) => {}
        }
        panic!("{what}: not within {PATIENCE:?}: {:?}", self.status());
    }

    /// Waits until all these commands are applied here.
    pub(super) async fn applied(&self, count: usize) {
        let until = Instant::now() + PATIENCE;
        while self.state.commands().len() < count {
            assert!(
                Instant::now() < until,
                "{} of {count} applied: {:?}",
                self.state.commands().len(),
                self.status()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Manager {
    /// Waits until the log up to `index` was dropped.
    pub(super) async fn log_begins_after(&self, index: u64) {
        let until = Instant::now() + PATIENCE;
        while self.node.log_stats().first_index <= index {
            assert!(Instant::now() < until, "the log is not dropped: {:?}", self.node.log_stats());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A place for one manager's data and address, which outlive its process.
struct Home {
    directory: TempDir,
    address: SocketAddr,
    ring: KeyRing,
}

/// A cluster.
pub(super) struct Lab {
    homes: BTreeMap<u64, Home>,
    pub(super) running: BTreeMap<u64, Manager>,
    cut_off: CutOff,
    pub(super) limits: Limits,
}

impl Lab {
    /// A cluster of `size` voters with ids from 1, led by 1.
    pub(super) async fn new(size: u64) -> Self {
        Self::with_limits(size, Limits::default()).await
    }

    pub(super) async fn with_limits(size: u64, limits: Limits) -> Self {
        let mut lab =
            Self { homes: BTreeMap::new(), running: BTreeMap::new(), cut_off: CutOff::default(), limits };
        lab.start(1).await;
        let first = lab.running[&1].node.clone();
        assert!(first.initialize(&lab.address(1)).await.unwrap());
        lab.running[&1].eventually("the first leads", RaftStatus::is_leader).await;
        for raft_id in 2..=size {
            lab.start(raft_id).await;
            first.add_learner(raft_id, &lab.address(raft_id), PATIENCE).await.unwrap();
        }
        first.change_voters((1..=size).collect(), PATIENCE).await.unwrap();
        lab
    }

    pub(super) fn address(&self, raft_id: u64) -> String {
        self.homes[&raft_id].address.to_string()
    }

    pub(super) fn directory(&self, raft_id: u64) -> &std::path::Path {
        self.homes[&raft_id].directory.path()
    }

    pub(super) fn config(&self, raft_id: u64) -> RaftConfig {
        let mut config = RaftConfig::new("test cluster", raft_id, self.directory(raft_id));
        config.limits = self.limits;
        config
    }

    pub(super) fn ring(&self, raft_id: u64) -> &KeyRing {
        &self.homes[&raft_id].ring
    }

    /// Starts a manager, with the data it has.
    pub(super) async fn start(&mut self, raft_id: u64) -> &Manager {
        let address = self.homes.get(&raft_id).map_or("127.0.0.1:0".parse().unwrap(), |home| home.address);
        let listener = TcpListener::bind(address).await.unwrap();
        self.homes.entry(raft_id).or_insert_with(|| Home {
            directory: tempfile::tempdir().unwrap(),
            address: listener.local_addr().unwrap(),
            ring: KeyRing::in_memory().unwrap(),
        });
        let state = Arc::new(ListState::default());
        let connector = Arc::new(PlainConnector { from: raft_id });
        let node = RaftNode::start(self.config(raft_id), self.ring(raft_id), state.clone(), connector)
            .await
            .unwrap();
        let cut_off = self.cut_off.clone();
        let service = InterceptedService::new(node.service().into_server(), move |request: Request<()>| {
            let agent = request.metadata().get("user-agent").map(|agent| agent.to_str().unwrap().to_owned());
            let caller: Option<u64> =
                agent.and_then(|agent| agent.strip_prefix("manager-")?.split(' ').next()?.parse().ok());
            let cut_off = cut_off.lock().unwrap();
            if cut_off.contains(&raft_id) || caller.is_some_and(|caller| cut_off.contains(&caller)) {
                return Err(Status::unavailable("cut off"));
            }
            Ok(request)
        });
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let server = tokio::task::spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            let stopped = async move { stopped.await.unwrap() };
            Server::builder()
                .add_service(service)
                .serve_with_incoming_shutdown(incoming, stopped)
                .await
                .unwrap();
        });
        self.running.insert(raft_id, Manager { node, state, server, stop });
        &self.running[&raft_id]
    }

    /// Stops a manager without handing anything over.
    pub(super) async fn kill(&mut self, raft_id: u64) {
        let manager = self.running.remove(&raft_id).unwrap();
        manager.node.shutdown().await;
        manager.stop.send(()).unwrap();
        // All connections end because Raft has stopped.
        tokio::time::timeout(PATIENCE, manager.server).await.expect("the server ends").unwrap();
    }

    pub(super) fn cut(&self, raft_id: u64) {
        self.cut_off.lock().unwrap().insert(raft_id);
    }

    pub(super) fn heal(&self) {
        self.cut_off.lock().unwrap().clear();
    }

    /// Waits for a leader that all running managers agree on.
    pub(super) async fn leader(&self) -> u64 {
        let until = Instant::now() + PATIENCE;
        loop {
            let leaders: BTreeSet<Option<u64>> = self
                .running
                .values()
                .map(|manager| manager.status().leader.map(|leader| leader.raft_id))
                .collect();
            if let (1, Some(Some(leader))) = (leaders.len(), leaders.first())
                && self.running.get(leader).is_some_and(|manager| manager.status().is_leader())
            {
                return *leader;
            }
            assert!(Instant::now() < until, "no leader: {leaders:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Writes through whoever leads; returns the index.
    pub(super) async fn write(&self, command: impl Into<Bytes>) -> u64 {
        let (command, until) = (command.into(), Instant::now() + PATIENCE);
        loop {
            let leader = self.leader().await;
            match self.running[&leader].node.propose(command.clone(), Duration::from_secs(5)).await {
                Ok(committed) => return committed.index,
                Err(RaftError::NotLeader { .. } | RaftError::Unavailable { .. })
                    if Instant::now() < until => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub(super) async fn stop(mut self) {
        for raft_id in self.running.keys().copied().collect::<Vec<_>>() {
            self.kill(raft_id).await;
        }
    }
}
