//! The store over a Raft of one manager.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use coracle_manager_core::Change;
use coracle_model::digest::Digest;
use coracle_model::image::ImageEntry;
use coracle_model::node::Platform;
use coracle_model::time::Timestamp;
use coracle_model::version::Version;
use coracle_proto::status::Reason;
use coracle_seal::KeyRing;
use tempfile::TempDir;
use tonic::transport::Channel;

use super::{Replicated, Store, Write};
use crate::raft::{ConnectError, PeerConnector, RaftConfig, RaftNode, RaftStatus};
use crate::reserve::Reserve;

/// There is nobody else.
#[derive(Debug)]
struct Alone;

impl PeerConnector for Alone {
    fn channel(&self, _: u64, address: &str) -> Result<Channel, ConnectError> {
        unreachable!("nobody is at {address}")
    }
}

/// A store whose manager leads, the term, and its folder.
pub(crate) async fn leading() -> (Store, u64, TempDir) {
    let folder = TempDir::new().unwrap();
    let ring = KeyRing::in_memory().unwrap();
    let replicated = Arc::new(Replicated::default());
    let config = RaftConfig::new("test", 1, folder.path());
    let raft = RaftNode::start(config, &ring, replicated.clone(), Arc::new(Alone)).await.unwrap();
    assert!(raft.initialize("127.0.0.1:1").await.unwrap());
    let term = raft.status().wait_for(RaftStatus::is_leader).await.unwrap().term;
    let store = Store::new(raft, replicated, Reserve { directory: folder.path().into(), bytes: Some(0) });
    store.settle(term).await.unwrap();
    (store, term, folder)
}

pub(crate) fn image(name: &str) -> Write {
    let image = ImageEntry {
        name: name.to_owned(),
        version: Version::default(),
        digest: Digest::from_bytes([1; 32]),
        size: 0,
        platform: Platform { os: "linux".to_owned(), architecture: "amd64".to_owned() },
        created_at: Timestamp::EPOCH,
    };
    Write::internal("test", vec![Change::PutImage(image)])
}

/// Proposes, and waits no longer.
pub(crate) fn propose_and_leave(store: &Store, write: Write) {
    let proposal = pin!(store.propose(write));
    let polled = proposal.poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Pending), "{polled:?}");
}

#[tokio::test]
async fn once_settled_what_was_proposed_before_is_in_the_view_also_when_nobody_waited_for_it() {
    let (store, term, _folder) = leading().await;
    for number in 0..20 {
        let name = format!("image-{number}");
        propose_and_leave(&store, Write { term, ..image(&name) });
        let view = store.settle(term).await.unwrap();
        assert!(view.image(&name).is_some(), "{name} may come later");
    }
    store.raft().shutdown().await;
}

#[tokio::test]
async fn another_term_is_not_settled() {
    let (store, term, _folder) = leading().await;
    assert_eq!(store.settle(term + 1).await.unwrap_err().reason, Reason::NotLeader);
    store.raft().shutdown().await;
}
