//! Exact texts of what is refused of volumes.

use std::collections::HashMap;
use std::time::Instant;

use coracle_manager_core::Change;
use coracle_model::id::SessionId;
use coracle_model::node::NodeState;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::super::world::{node, state, told};
use super::*;
use crate::dispatcher::registry::{Connected, Origin, Registry};

/// Three nodes: two that told the volumes of these names, and one that did not.
fn seen(first: &[&str], second: &[&str], third: NodeState) -> Seen {
    let (registry, stop) = (Arc::new(Registry::default()), CancellationToken::new());
    let broker = Arc::new(VolumeBroker::new(Arc::clone(&registry), stop.clone()));
    for (bits, names) in [(1, first), (2, second)] {
        let (node, session) = (NodeId::from_bits(bits), SessionId::from_bits(bits));
        let connected = Connected {
            origin: Origin::default(),
            certified: None,
            session,
            wake: Arc::new(Notify::new()),
            messages: mpsc::channel(1).0,
            close: stop.child_token(),
            images: BTreeSet::new(),
        };
        registry.enter(node, connected, Instant::now()).unwrap();
        let volume = |name: &&str| v1::Volume { name: (*name).to_owned(), ..Default::default() };
        let volumes = names.iter().map(volume).collect();
        let report = v1::VolumeReport { first: true, last: true, set: volumes, ..Default::default() };
        broker.report(node, session, report).unwrap();
    }
    let mut silent = node(3, "w3");
    silent.status.state = third;
    let nodes = [node(1, "w1"), node(2, "w2"), silent];
    Seen {
        view: state(nodes.into_iter().map(Change::CreateNode).collect()),
        broker,
        asked: NodeId::from_bits(1),
    }
}

#[test]
fn a_volume_that_is_not_there_or_not_clear() {
    let seen = seen(&["data", "cache"], &["data"], NodeState::Down);
    assert_eq!(
        told(seen.only_holder("cache")),
        "volume cache is on w1, and w3 is not heard, which may have one too\nhint: name the node with --node; see `coracle \
         node ls`"
    );
    assert_eq!(told(seen.only_holder("nope")), "fine");
    assert_eq!(
        told(seen.only_holder("data")),
        "volume data is on 2 nodes: w1, w2; which one is meant?\nhint: name the node with --node (`coracle volume rm` also takes \
         --all-nodes)"
    );
    assert_eq!(
        told::<()>(Err(seen.nowhere("nope"))),
        "no node that is heard has a volume \"nope\"\nhint: not heard: w3; see `coracle node ls`"
    );
    let heard = [node(1, "w1"), node(2, "w2")].map(Change::CreateNode);
    let seen = Seen { view: state(heard.into()), ..seen };
    assert_eq!(told(seen.only_holder("cache")), "fine");
    assert_eq!(
        told::<()>(Err(seen.nowhere("nope"))),
        "no node has a volume \"nope\"\nhint: see `coracle volume ls`"
    );
    assert_eq!(
        told(seen.one("w9").map(|place| place.hostname)),
        "no node \"w9\"\nhint: did you mean \"w1\"? see `coracle node ls`"
    );
}

#[test]
fn why_a_node_is_not_heard() {
    for (state, expected) in [
        (NodeState::Down, "it is down"),
        (NodeState::Ready, "it has not told its volumes to this leader yet"),
        (NodeState::Unknown, "it is not connected"),
    ] {
        let silent = seen(&[], &[], state).silent();
        let told: Vec<_> =
            silent.iter().map(|node| (node.node_hostname.as_str(), node.message.as_str())).collect();
        assert_eq!(told, [("w3", expected)]);
    }
    let seen = seen(&[], &[], NodeState::Down);
    let report = v1::VolumeReport { first: true, last: true, omitted: 7, ..Default::default() };
    seen.broker.report(NodeId::from_bits(2), SessionId::from_bits(2), report).unwrap();
    assert_eq!(seen.silent()[0].message, "7 more volumes are not listed: there are too many");
}

#[test]
fn what_a_holder_does_not_list_is_no_second_one() {
    let seen = seen(&["data"], &["cache"], NodeState::Down);
    let nodes = [node(1, "w1"), node(2, "w2")].map(Change::CreateNode);
    let seen = Seen { view: state(nodes.into()), ..seen };
    let cache = v1::Volume { name: "cache".to_owned(), ..Default::default() };
    let report =
        v1::VolumeReport { first: true, last: true, set: vec![cache], omitted: 7, ..Default::default() };
    seen.broker.report(NodeId::from_bits(2), SessionId::from_bits(2), report).unwrap();
    assert_eq!(told(seen.only_holder("cache")), "fine");
    assert!(told(seen.only_holder("data")).contains("w2 is not heard"));
}

#[test]
fn what_a_request_may_say() {
    assert_eq!(told(check_driver("local")), "fine");
    assert_eq!(
        told(check_driver("nfs")),
        "driver: invalid value \"nfs\": local is the only one\nhint: other storage can be mounted on the nodes, and given to tasks \
         with a mount of type=bind"
    );
    let long = HashMap::from([("a".to_owned(), "x".repeat(65_536))]);
    assert_eq!(told(labels(long)), "label: the labels of a volume are 65537 bytes, 65536 at most");
    let many: Vec<String> = (0..1001).map(|number| format!("w{number}")).collect();
    assert_eq!(told(distinct(&many)), "node: 1001 nodes are named, 1000 at most");
    assert_eq!(told::<()>(Err(both_named_and_all())), "all-nodes: conflicts with nodes that are named");
    assert_eq!(
        told::<()>(Err(unexpected())),
        "the node answered something else than was asked\nhint: its version may be another: see `coracle node ls`"
    );
}
