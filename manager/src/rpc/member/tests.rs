//! Every method against every kind of caller: the gate and this check together allow what the access table says, and nothing to
//! those whose certificate no longer stands for what it says.

use std::collections::BTreeMap;

use coracle_manager_core::{Change, Proposal, apply};
use coracle_model::cluster::{Cluster, ClusterSpec, Secret};
use coracle_model::id::ClusterId;
use coracle_model::node::{
    Availability, ManagerMember, Node, NodeDescription, NodeSpec, NodeState, NodeStatus,
};
use coracle_model::time::Timestamp;
use coracle_model::version::Version;
use coracle_pki::csr::{CertificateRequest, request_certificate};
use coracle_pki::issue::{Authority, DEFAULT_VALIDITY, Grant};
use coracle_pki::key::PrivateKey;
use coracle_pki::{RootKey, Subject, UnixTime};
use coracle_rpc::caller::{FORWARDED_HEADER, PassedOnBy};
use coracle_rpc::gate;
use http::Request;

use super::*;

const WORKER: NodeId = NodeId::from_bits(1);
const MANAGER: NodeId = NodeId::from_bits(2);
const DEMOTED: NodeId = NodeId::from_bits(3);
const REMOVED: NodeId = NodeId::from_bits(4);

struct World {
    state: State,
    authority: Authority,
    issued: UnixTime,
}

fn node(id: NodeId, role: Role, raft_id: Option<u64>) -> Change {
    let spec = NodeSpec { role, availability: Availability::Active, labels: BTreeMap::new() };
    let status = NodeStatus {
        state: NodeState::Ready,
        since: Timestamp::EPOCH,
        message: String::new(),
        address: "10.0.0.1:2377".to_owned(),
    };
    Change::CreateNode(Node {
        id,
        version: Version::default(),
        created_at: Timestamp::EPOCH,
        spec,
        description: NodeDescription::default(),
        status,
        manager: raft_id.map(|raft_id| ManagerMember { raft_id, address: "10.0.0.1:2377".to_owned() }),
    })
}

impl World {
    fn new() -> Self {
        let issued = UnixTime::now();
        let key = RootKey::generate().unwrap();
        let id = ClusterId::from_bits(9);
        let root = key.certify(id, issued).unwrap();
        let cluster = Cluster {
            id,
            version: Version::default(),
            created_at: Timestamp::EPOCH,
            feature_level: 1,
            root_certificate: root.to_pem(),
            root_key: Secret::default(),
            worker_token: Secret::default(),
            manager_token: Secret::default(),
            ticket_key: Secret::default(),
            next_raft_id: 5,
            spec: ClusterSpec::default(),
        };
        let proposal = Proposal {
            changes: vec![
                Change::CreateCluster(cluster),
                node(WORKER, Role::Worker, None),
                node(MANAGER, Role::Manager, Some(1)),
                node(DEMOTED, Role::Worker, None),
            ],
            actor: String::new(),
            reason: String::new(),
            // Newer than the certificates by more than clocks may differ.
            time: Timestamp::from_secs(issued.as_secs() + 3600),
            idempotency: None,
            term: 0,
        };
        let mut state = State::default();
        apply(&mut state, 1, 1, &proposal).0.into_result().unwrap();
        Self { state, authority: Authority::new(root, key).unwrap(), issued }
    }

    fn member(&self, subject: Subject) -> Caller {
        let key = PrivateKey::generate().unwrap();
        let request = CertificateRequest::from_der(&request_certificate(&key).unwrap()).unwrap();
        let grant = Grant { subject, validity: DEFAULT_VALIDITY, now: self.issued };
        let certificate = self.authority.issue(&request, &grant).unwrap();
        Caller::Member(PeerIdentity::from_verified(&certificate).unwrap())
    }

    /// Whether a call goes through to its handler.
    fn allowed(&self, caller: &Caller, forwarding: Option<&str>, path: &str) -> bool {
        let mut request = Request::builder().uri(path).body(()).unwrap();
        request.extensions_mut().insert(caller.clone());
        if let Some(header) = forwarding {
            request.headers_mut().insert(FORWARDED_HEADER, header.parse().unwrap());
        }
        if gate::admit(&mut request).is_err() {
            return false;
        }
        let original = request.extensions().get::<Caller>().unwrap();
        let by = request.extensions().get::<PassedOnBy>().map(|by| by.0);
        check(&self.state, original, by, path).is_ok()
    }
}

fn table_allows(path: &str, caller: access::Caller) -> bool {
    access::allows(path, &[caller])
}

#[test]
fn members_may_what_the_table_says() {
    let world = World::new();
    let worker = world.member(Subject::Worker(WORKER));
    let manager = world.member(Subject::Manager(MANAGER));
    let operator = world.member(Subject::Operator("ann".parse().unwrap()));
    for method in access::TABLE {
        let path = method.path;
        assert_eq!(world.allowed(&worker, None, path), table_allows(path, access::Caller::Worker), "{path}");
        assert_eq!(
            world.allowed(&manager, None, path),
            table_allows(path, access::Caller::Manager),
            "{path}"
        );
        assert_eq!(
            world.allowed(&operator, None, path),
            table_allows(path, access::Caller::Operator),
            "{path}"
        );
        assert_eq!(
            world.allowed(&Caller::Stranger, None, path),
            table_allows(path, access::Caller::Anyone),
            "{path}"
        );
    }
}

#[test]
fn a_demoted_manager_is_a_worker_whatever_its_certificate_says() {
    let world = World::new();
    let demoted = world.member(Subject::Manager(DEMOTED));
    for method in access::TABLE {
        let as_worker = table_allows(method.path, access::Caller::Worker)
            && table_allows(method.path, access::Caller::Manager);
        let open = table_allows(method.path, access::Caller::Anyone)
            && table_allows(method.path, access::Caller::Manager);
        assert_eq!(world.allowed(&demoted, None, method.path), as_worker || open, "{}", method.path);
    }
}

#[test]
fn a_removed_node_may_nothing() {
    let world = World::new();
    for subject in [Subject::Worker(REMOVED), Subject::Manager(REMOVED)] {
        let removed = world.member(subject);
        for method in access::TABLE {
            assert!(!world.allowed(&removed, None, method.path), "{}", method.path);
        }
    }
}

#[test]
fn only_present_managers_vouch_for_others() {
    let world = World::new();
    let create = "/coracle.v1.Services/Create";
    let operator = Some("operator root");
    assert!(world.allowed(&world.member(Subject::Manager(MANAGER)), operator, create));
    for subject in [
        Subject::Manager(DEMOTED),
        Subject::Manager(REMOVED),
        Subject::Worker(WORKER),
        Subject::Operator("ann".parse().unwrap()),
    ] {
        for method in access::TABLE {
            assert!(!world.allowed(&world.member(subject.clone()), operator, method.path), "{}", method.path);
        }
    }
}

#[test]
fn a_manager_that_this_state_does_not_know_yet_reaches_raft() {
    let mut world = World::new();
    world.issued = UnixTime::since_unix_epoch(Duration::from_secs(world.issued.as_secs() + 3600));
    let new = world.member(Subject::Manager(NodeId::from_bits(50)));
    assert!(world.allowed(&new, None, "/coracle.v1.RaftTransport/Vote"));
    assert!(!world.allowed(&new, None, "/coracle.v1.Membership/Join"));
}
