//! The settings whose defaults would turn something off.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coracle_seal::KeyRing;
use coracle_wal::{DiskStorage, Entry, Log, Options};
use openraft::RPCTypes;
use openraft::error::RPCError;
use openraft::network::RPCOption;
use openraft::raft::VoteRequest;
use openraft::storage::RaftLogReader as _;
use openraft::{RaftNetworkFactory as _, RaftNetworkV2 as _};

use crate::raft::identity::Identity;
use crate::raft::log_store::LogStore;
use crate::raft::network::{Http2, PeerFactory, Peers};
use crate::raft::settings::{BATCH_BYTES, MESSAGE_LIMIT, config};
use crate::raft::snapshot::SnapshotStore;
use crate::raft::types::{Command, Member, Payload, Vote};
use crate::raft::{ConnectError, Host, Limits, PeerConnector, Timing, endpoint, wire};

#[test]
fn what_must_be_set_is_set() {
    let config = config("cluster", &Timing::default(), &Limits::default()).unwrap();
    assert_eq!(config.enable_pre_vote, Some(true));
    assert_eq!(config.enable_leader_restore, Some(false));
    assert_eq!(config.allow_log_reversion, Some(false));
    assert!(config.install_snapshot_timeout() >= Duration::from_secs(30));
    assert!(config.snapshot_max_chunk_size <= BATCH_BYTES as u64);
    assert!(config.max_in_snapshot_log_to_keep >= 1000);
    const { assert!(MESSAGE_LIMIT > 2 * BATCH_BYTES) };
}

#[test]
fn clocks_that_cannot_work_are_refused() {
    let timing = Timing { heartbeat: Duration::from_millis(500), ..Timing::default() };
    assert!(config("cluster", &timing, &Limits::default()).is_err());
}

#[tokio::test]
async fn a_batch_is_bounded_in_bytes_and_never_empty() {
    let directory = tempfile::tempdir().unwrap();
    let storage = DiskStorage::open(directory.path()).unwrap();
    let log = Arc::new(Log::open(storage, KeyRing::in_memory().unwrap(), &Options::default()).unwrap());
    let payload = wire::encode_payload(&Payload::Normal(Command(Bytes::from(vec![0; 400_000]))));
    let entries = (0..10).map(|index| Entry { index, term: 1, payload: payload.clone() }).collect();
    log.append(entries, Box::new(|_| {})).unwrap();
    let mut store = LogStore::<Host>::new(log);
    assert_eq!(store.limited_get_log_entries(0, 10).await.unwrap().len(), 2);
    let large = wire::encode_payload(&Payload::Normal(Command(Bytes::from(vec![0; 3 << 19]))));
    let directory = tempfile::tempdir().unwrap();
    let storage = DiskStorage::open(directory.path()).unwrap();
    let log = Arc::new(Log::open(storage, KeyRing::in_memory().unwrap(), &Options::default()).unwrap());
    let entries = (0..3).map(|index| Entry { index, term: 1, payload: large.clone() }).collect();
    log.append(entries, Box::new(|_| {})).unwrap();
    assert_eq!(LogStore::<Host>::new(log).limited_get_log_entries(0, 3).await.unwrap().len(), 1);
}

/// Connects to an address where nobody listens.
struct Nobody;

impl PeerConnector for Nobody {
    fn channel(&self, _raft_id: u64, _address: &str) -> Result<tonic::transport::Channel, ConnectError> {
        Ok(endpoint("http://127.0.0.1:1".parse()?).connect_lazy())
    }
}

fn factory(directory: &std::path::Path) -> PeerFactory<Host> {
    let ring = KeyRing::in_memory().unwrap();
    let identity = Identity { cluster_id: "cluster".to_owned(), raft_id: 1 };
    PeerFactory::new(Peers::new(
        identity,
        Arc::new(Http2(Arc::new(Nobody))),
        SnapshotStore::open(Arc::new(DiskStorage::unlocked(directory).unwrap()), &ring, None).unwrap(),
    ))
}

#[tokio::test]
async fn a_peer_that_cannot_be_reached_grants_no_pre_vote() {
    let directory = tempfile::tempdir().unwrap();
    let mut peer = factory(directory.path()).new_client(2, &Member::default()).await;
    let request = VoteRequest::new(Vote::new(5, 1), None);
    let answer = peer.pre_vote(request, RPCOption::new(Duration::from_secs(5))).await;
    // openraft's default answers for the peer, and grants.
    assert!(matches!(answer, Err(RPCError::Unreachable(_))), "{answer:?}");
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_a_timeout_and_not_unreachable() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    struct Silent(String);
    impl PeerConnector for Silent {
        fn channel(&self, _raft_id: u64, _address: &str) -> Result<tonic::transport::Channel, ConnectError> {
            Ok(endpoint(format!("http://{}", self.0).parse()?).connect_lazy())
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let ring = KeyRing::in_memory().unwrap();
    let identity = Identity { cluster_id: "cluster".to_owned(), raft_id: 1 };
    let silent = Arc::new(Silent(listener.local_addr().unwrap().to_string()));
    let snapshots =
        SnapshotStore::open(Arc::new(DiskStorage::unlocked(directory.path()).unwrap()), &ring, None).unwrap();
    let mut peer = PeerFactory::<Host>::new(Peers::new(identity, Arc::new(Http2(silent)), snapshots))
        .new_client(2, &Member::default())
        .await;
    let answer =
        peer.vote(VoteRequest::new(Vote::new(5, 1), None), RPCOption::new(Duration::from_millis(200))).await;
    assert!(
        matches!(answer, Err(RPCError::Timeout(ref timeout)) if timeout.action == RPCTypes::Vote),
        "{answer:?}"
    );
}
