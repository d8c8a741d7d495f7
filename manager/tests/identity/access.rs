//! Every method against every kind of caller.

use coracle_manager_core::Change;
use coracle_model::id::NodeId;
use coracle_model::node::{ManagerMember, NodeSpec};
use coracle_model::role::Role;
use coracle_model::version::Version;
use coracle_pki::{Subject, UnixTime};
use coracle_proto::access::{self, Caller, TABLE};
use coracle_proto::status::Reason;

use crate::world::{Answer, Credentials, World, call, certificate, other_authority, unix_now};

const DAY: u64 = 24 * 3600;

/// Methods that the manager serves; the others belong to the node and are gated by the same table.
fn served() -> impl Iterator<Item = &'static str> {
    let of_the_node = ["/coracle.v1.LocalNode/", "/coracle.v1.ImageTransfer/"];
    TABLE
        .iter()
        .map(|method| method.path)
        .filter(move |path| !of_the_node.iter().any(|of| path.starts_with(of)))
}

fn days_from_now(days: i64) -> UnixTime {
    let now = unix_now().as_secs();
    let moved = now.checked_add_signed(days * DAY as i64).unwrap();
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(moved))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_may_what_the_table_says_and_nothing_else() {
    let world = World::new().await;
    let worker = world.add_node("w1", Role::Worker, None).await;
    let other_manager = ManagerMember { raft_id: 90, address: "127.0.0.1:9".to_owned() };
    let manager = world.add_node("m2", Role::Manager, Some(other_manager)).await;
    let kinds = [
        (Caller::Anyone, None),
        (Caller::Worker, Some(world.credentials(Subject::Worker(worker)))),
        (Caller::Operator, Some(world.operator())),
        (Caller::Manager, Some(world.credentials(Subject::Manager(manager)))),
    ];
    for (kind, credentials) in &kinds {
        for path in served() {
            let answer = call(&world.channel(credentials.as_ref()), path).await;
            if access::allows(path, &[*kind]) {
                let refusal = matches!(answer, Answer::Refused(Reason::Unauthenticated)) && issues(path);
                assert!(answer == Answer::Reached || refusal, "{kind:?} may call {path}: {answer:?}");
            } else {
                assert!(matches!(answer, Answer::Refused(_)), "{kind:?} may not call {path}: {answer:?}");
            }
            if *kind == Caller::Manager {
                restore(&world, manager).await;
            }
        }
    }
}

/// The one call in which being refused is an answer of the handler: the token is wrong.
fn issues(path: &str) -> bool {
    path == "/coracle.v1.CertificateAuthority/Issue"
}

/// Gives the second manager its place again.
async fn restore(world: &World, node: NodeId) {
    let member = Some(ManagerMember { raft_id: 90, address: "127.0.0.1:9".to_owned() });
    world.write(vec![Change::SetManagerMember { node, member }]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_no_table_is_refused_to_everybody() {
    let world = World::new().await;
    let operator = world.operator();
    let manager = world.credentials(Subject::Manager(world.manager));
    for path in [
        "/coracle.v1.Services/Nope",
        "/coracle.v1.Services/create",
        "/coracle.v1.Services/Create/",
        "//coracle.v1.Services/Create",
        "/coracle.v1.Services/../Services/Create",
        "/coracle.v1.Services%2FCreate",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/",
    ] {
        for credentials in [None, Some(&operator), Some(&manager)] {
            let answer = call(&world.channel(credentials), path).await;
            assert!(matches!(answer, Answer::Refused(_)), "{path}: {answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_that_are_not_good_come_through_no_handshake() {
    let world = World::new().await;
    let worker = world.add_node("w1", Role::Worker, None).await;
    let subjects = || {
        [Subject::Worker(worker), Subject::Manager(world.manager), Subject::Operator("ann".parse().unwrap())]
    };
    let foreign = other_authority(world.cluster);
    let before = world.seen();
    let mut tried = 0;
    for subject in subjects() {
        let bad: [(&str, Credentials); 3] = [
            ("another root, equal names", certificate(&foreign, subject.clone(), unix_now())),
            ("expired", certificate(&world.authority, subject.clone(), days_from_now(-31))),
            ("not yet valid", certificate(&world.authority, subject, days_from_now(1))),
        ];
        for (what, credentials) in bad {
            for path in served() {
                let answer = call(&world.channel(Some(&credentials)), path).await;
                assert_eq!(answer, Answer::NoConnection, "{what}: {path}");
                tried += 1;
            }
        }
    }
    assert!(tried > 200, "{tried}");
    assert_eq!(world.seen(), before, "no request of theirs was even read");
    // The harness itself lets good ones through.
    let good = world.credentials(Subject::Worker(worker));
    assert_eq!(
        call(&world.channel(Some(&good)), "/coracle.v1.CertificateAuthority/GetRoot").await,
        Answer::Reached
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_node_is_told_so_at_once_and_may_nothing() {
    let world = World::new().await;
    let node = world.add_node("w1", Role::Worker, None).await;
    // Both young: they were issued a moment ago.
    let worker = world.credentials(Subject::Worker(node));
    let manager = world.credentials(Subject::Manager(node));
    let held = world.channel(Some(&worker));
    assert_eq!(call(&held, "/coracle.v1.CertificateAuthority/GetRoot").await, Answer::Reached);
    world.write(vec![Change::RemoveNode { node, expected: Version::default() }]).await;
    for path in served() {
        for credentials in [&worker, &manager] {
            let answer = call(&world.channel(Some(credentials)), path).await;
            assert!(matches!(answer, Answer::Refused(_)), "{path}: {answer:?}");
        }
    }
    let session = "/coracle.v1.Dispatcher/Session";
    assert_eq!(call(&held, session).await, Answer::Refused(Reason::Removed), "also on an old connection");
}

async fn demote(world: &World, node: NodeId) {
    let spec = world.store.view().node(node).unwrap().spec.clone();
    let spec = NodeSpec { role: Role::Worker, ..spec };
    let changes = vec![
        Change::UpdateNodeSpec { node, expected: Version::default(), spec },
        Change::SetManagerMember { node, member: None },
    ];
    world.write(changes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demoted_manager_is_a_worker_at_once() {
    let world = World::new().await;
    let member = ManagerMember { raft_id: 90, address: "127.0.0.1:9".to_owned() };
    let node = world.add_node("m2", Role::Manager, Some(member)).await;
    let credentials = world.credentials(Subject::Manager(node));
    let vote = "/coracle.v1.RaftTransport/Vote";
    assert_eq!(
        call(&world.channel(Some(&credentials)), vote).await,
        Answer::Reached,
        "it still has its place"
    );
    demote(&world, node).await;
    for path in served() {
        let answer = call(&world.channel(Some(&credentials)), path).await;
        let as_both = access::allows(path, &[Caller::Worker]) && access::allows(path, &[Caller::Manager]);
        if as_both {
            assert_eq!(answer, Answer::Reached, "{path}");
        } else {
            assert!(matches!(answer, Answer::Refused(_)), "{path}: {answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_call_ends_with_the_rights_of_its_caller() {
    use coracle_proto::v1;
    use coracle_proto::v1::raft_transport_client::RaftTransportClient;
    let world = World::new().await;
    let member = ManagerMember { raft_id: 90, address: "127.0.0.1:9".to_owned() };
    let node = world.add_node("m2", Role::Manager, Some(member)).await;
    let credentials = world.credentials(Subject::Manager(node));
    let mut client = RaftTransportClient::new(world.channel(Some(&credentials)));
    let (sender, requests) = tokio::sync::mpsc::channel(4);
    let answers = client.append(tokio_stream::wrappers::ReceiverStream::new(requests)).await.unwrap();
    demote(&world, node).await;
    sender.send(v1::RaftAppendRequest::default()).await.unwrap();
    let refused = answers.into_inner().message().await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated, "{refused}");
}
