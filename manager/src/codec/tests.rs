//! Everything stored comes back; nothing that is read can do harm.

#[path = "../../core/tests/world/mod.rs"]
mod world;

use coracle_manager_core::{Change, Outcome, Proposal, Refusal, RefusalKind, State};
use coracle_model::cluster::{ClusterSpec, Secret};
use coracle_model::digest::Digest;
use coracle_model::id::{FileId, IdempotencyKey, NodeId, ServiceId, TaskId};
use coracle_model::image::ImageEntry;
use coracle_model::job::JobStatus;
use coracle_model::node::{ManagerMember, NodeState, Platform};
use coracle_model::rebalance::{Move, RebalanceProgress};
use coracle_model::secret::{Content, File, FileKind};
use coracle_model::service::{ServiceMode, UpdateProgress, UpdateState};
use coracle_model::task::{DesiredState, Exit, Slot, Task, TaskState, TaskStatus};
use coracle_model::time::Timestamp;
use coracle_model::version::Version;
use proptest::prelude::*;
use world::{World, build};

use super::*;

fn status(number: u64, text: &str) -> TaskStatus {
    let exits =
        [None, Some(Exit::Code(3)), Some(Exit::Signal(9)), Some(Exit::OutOfMemory), Some(Exit::Unknown)];
    TaskStatus {
        state: TaskState::ALL[number as usize % TaskState::ALL.len()],
        since: Timestamp::from_nanos(number),
        message: text.to_owned(),
        error: text.to_owned(),
        exit: exits[number as usize % exits.len()],
        pid: number as u32,
        local_restarts: (number >> 32) as u32,
        health: None,
    }
}

fn task(number: u64, text: &str) -> Task {
    let odd = number % 2 == 1;
    Task {
        id: TaskId::from_bits(u128::from(number)),
        version: Version::new(number),
        created_at: Timestamp::from_nanos(number),
        service: ServiceId::from_bits(u128::from(number) << 64),
        spec_version: Version::new(number / 2),
        slot: if odd { Slot::Number(number) } else { Slot::Node(NodeId::from_bits(5)) },
        node: odd.then(|| NodeId::from_bits(u128::MAX)),
        desired: DesiredState::Ready,
        start_after: odd.then(|| Timestamp::from_nanos(number)),
        status: status(number, text),
        running_since: odd.then(|| Timestamp::from_nanos(number)),
        run: number,
        crashes: number as u32,
        generic: [(text.to_owned(), vec![text.to_owned()])].into(),
    }
}

/// A change of every kind.
fn changes(number: u64, text: &str) -> Vec<Change> {
    let (node, service) = (NodeId::from_bits(number.into()), ServiceId::from_bits(number.into()));
    let (id, expected) = (TaskId::from_bits(number.into()), Version::new(number));
    let mut spec = build::service_spec("web", number);
    spec.labels.insert(text.to_owned(), text.to_owned());
    spec.task.placement.constraints = vec!["node.labels.zone==a".parse().unwrap()];
    if number.is_multiple_of(3) {
        spec.mode = ServiceMode::Global;
    }
    let member = ManagerMember { raft_id: number, address: text.to_owned() };
    let object = build::node(number.into(), text, build::resources(number, number));
    let cluster = build::cluster(ClusterSpec { task_history_limit: number as i32, ..ClusterSpec::default() });
    vec![
        Change::CreateCluster(cluster.clone()),
        Change::UpdateCluster { cluster, expected },
        Change::UpdateNodeSpec { node, expected, spec: object.spec.clone() },
        Change::DescribeNode { node, description: object.description.clone(), address: text.to_owned() },
        Change::SetNodeStatus { node, state: NodeState::Down, message: text.to_owned() },
        Change::SetManagerMember { node, member: Some(member) },
        Change::SetManagerMember { node, member: None },
        Change::CreateNode(object),
        Change::RemoveNode { node, expected },
        Change::CreateService(Box::new(build::service(number.into(), spec.clone()))),
        Change::UpdateService { service, expected, spec: Box::new(spec) },
        Change::SetUpdateProgress {
            service,
            expected,
            progress: UpdateProgress {
                completed_at: number.is_multiple_of(2).then(|| Timestamp::from_nanos(number)),
                ..UpdateProgress::begun(UpdateState::Completed, Timestamp::from_nanos(number), number, text)
            },
        },
        Change::SetRebalance {
            service,
            expected,
            progress: RebalanceProgress {
                moving: number.is_multiple_of(2).then_some(Move { from: id, to: id }),
                message: text.to_owned(),
                ..RebalanceProgress::begun(Timestamp::from_nanos(number), true, Some(number))
            },
        },
        Change::RemoveService { service, expected },
        Change::RollBackService { service, expected, message: text.to_owned(), automatic: true },
        Change::SetJobStatus { service, expected, job: JobStatus { run: number, ..JobStatus::default() } },
        Change::CreateTask { task: task(number, text), service_version: expected, beside: None },
        Change::CreateTask { task: task(number, text), service_version: expected, beside: Some(id) },
        Change::AssignTask {
            task: id,
            expected,
            node,
            node_version: Version::new(number / 3),
            generic: [(text.to_owned(), vec![text.to_owned()])].into(),
        },
        Change::RaiseDesired { task: id, desired: DesiredState::Shutdown, service_version: expected },
        Change::ReportTask { task: id, node: Some(node), status: status(number, text) },
        Change::ReportTask { task: id, node: None, status: status(number, text) },
        Change::RemoveTask { task: id },
        Change::PutImage(ImageEntry {
            name: text.to_owned(),
            version: expected,
            digest: Digest::from_bytes([number as u8; 32]),
            size: number,
            platform: Platform { os: text.to_owned(), architecture: text.to_owned() },
            created_at: Timestamp::from_nanos(number),
        }),
        Change::RemoveImage { name: text.to_owned() },
        Change::CreateFile(file(number, text)),
        Change::UpdateFile { file: FileId::from_bits(number.into()), expected, labels: None, data: None },
        Change::UpdateFile {
            file: FileId::from_bits(number.into()),
            expected,
            labels: Some([(text.to_owned(), text.to_owned())].into()),
            data: Some(Secret::new(text.as_bytes().to_vec())),
        },
        Change::RemoveFile { file: FileId::from_bits(number.into()), expected },
        Change::CollectFile { file: FileId::from_bits(number.into()), content: number },
        Change::FollowFile { service, file: FileId::from_bits(number.into()), content: number },
    ]
}

fn file(number: u64, text: &str) -> File {
    let odd = number % 2 == 1;
    let content =
        |data: &[u8]| Content { created_at: Timestamp::from_nanos(number), data: Secret::new(data.to_vec()) };
    File {
        id: FileId::from_bits(number.into()),
        kind: if odd { FileKind::Secret } else { FileKind::Config },
        version: Version::new(number),
        created_at: Timestamp::from_nanos(number),
        updated_at: Timestamp::from_nanos(number),
        name: "key".parse().unwrap(),
        labels: [(text.to_owned(), text.to_owned())].into(),
        template: odd,
        contents: [(1, content(text.as_bytes())), (number.max(2), content(&[0xff, 0]))].into(),
    }
}

/// A state with something in every table.
fn state(number: u64) -> State {
    let mut world = World::default();
    world.add_nodes(3);
    world.set_history(5);
    for name in ["web", "db"] {
        let mut spec = build::service_spec(name, number % 7);
        spec.labels.insert("team".to_owned(), name.to_owned());
        world.add_service(spec);
    }
    world.converge();
    let gone = world.state.nodes().next().unwrap().id;
    world.write(vec![Change::RemoveNode { node: gone, expected: Version::default() }]);
    let key = Some(IdempotencyKey::from_bits(number.into()));
    let images = changes(number, "app:1")
        .into_iter()
        .filter(|change| matches!(change, Change::PutImage(_) | Change::CreateFile(_)));
    let proposal = Proposal {
        changes: images.collect(),
        actor: String::new(),
        reason: String::new(),
        time: world.now,
        idempotency: key,
        term: 0,
    };
    world.propose(&proposal);
    world.state
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn proposals_come_back(number: u64, text in "\\PC{0,20}", key in prop::option::of(any::<u128>())) {
        let proposal = Proposal {
            changes: changes(number, &text),
            actor: text.clone(),
            reason: text,
            time: Timestamp::from_nanos(number),
            idempotency: key.map(IdempotencyKey::from_bits),
            term: number,
        };
        prop_assert_eq!(decode_proposal(&encode_proposal(&proposal)).unwrap(), proposal);
    }

    #[test]
    fn snapshots_come_back(number: u64) {
        let state = state(number);
        let mut bytes = Vec::new();
        write_snapshot(&state, &mut bytes).unwrap();
        prop_assert!(read_snapshot(&mut bytes.as_slice()).unwrap() == state);
    }

    #[test]
    fn a_snapshot_that_is_cut_off_is_no_panic(number: u64, cut in any::<prop::sample::Index>()) {
        let mut bytes = Vec::new();
        write_snapshot(&state(number), &mut bytes).unwrap();
        bytes.truncate(cut.index(bytes.len()));
        let _ = read_snapshot(&mut bytes.as_slice());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_proposal(&bytes);
        let _ = decode_outcome(&bytes);
        let _ = read_snapshot(&mut bytes.as_slice());
    }
}

#[test]
fn outcomes_come_back() {
    let kinds = [
        RefusalKind::NotFound,
        RefusalKind::Stale,
        RefusalKind::Exists,
        RefusalKind::Forbidden,
        RefusalKind::NotLeader,
        RefusalKind::Malformed,
    ];
    let refused = kinds.map(|kind| Outcome::Refused(Refusal::new(kind, "because")));
    for outcome in refused.into_iter().chain([Outcome::Applied(Version::new(7))]) {
        assert_eq!(decode_outcome(&encode_outcome(&outcome)).unwrap(), outcome);
    }
}

#[test]
fn a_snapshot_of_a_newer_format_is_refused() {
    use coracle_proto::v1;
    use prost::Message;
    let header = v1::SnapshotHeader { format: FORMAT + 1, time: 0, index: 0 };
    let record = v1::SnapshotRecord { record: Some(v1::snapshot_record::Record::Header(header)) };
    let bytes = record.encode_length_delimited_to_vec();
    let error = read_snapshot(&mut bytes.as_slice()).unwrap_err().to_string();
    assert!(error.contains("snapshot format"), "{error}");
}
