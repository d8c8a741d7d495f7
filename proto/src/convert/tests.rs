use std::time::Duration;

use coracle_model::cluster::{Cluster, ClusterSpec, Secret};
use coracle_model::digest::Digest;
use coracle_model::id::{ClusterId, NodeId, ServiceId, TaskId};
use coracle_model::image::ImageEntry;
use coracle_model::mount::{Mount, MountKind};
use coracle_model::node::*;
use coracle_model::resources::{Limits, MemoryBytes, NanoCpus, Resources};
use coracle_model::restart::{DEFAULT_DELAY, RestartCondition, RestartPolicy};
use coracle_model::role::Role;
use coracle_model::service::*;
use coracle_model::task::*;
use coracle_model::time::Timestamp;
use coracle_model::version::Version;
use proptest::prelude::*;

use super::*;
use crate::v1;

fn resources() -> impl Strategy<Value = Resources> {
    any::<(u64, u64)>()
        .prop_map(|(cpu, memory)| Resources { cpu: NanoCpus(cpu), memory: MemoryBytes(memory) })
}

fn limits() -> impl Strategy<Value = Limits> {
    (resources(), any::<u64>()).prop_map(|(r, pids)| Limits { cpu: r.cpu, memory: r.memory, pids })
}

fn time() -> impl Strategy<Value = Timestamp> {
    any::<u64>().prop_map(Timestamp::from_nanos)
}

fn wait() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_nanos)
}

fn labels() -> impl Strategy<Value = std::collections::BTreeMap<String, String>> {
    prop::collection::btree_map(".{0,8}", ".{0,8}", 0..4)
}

fn mount() -> impl Strategy<Value = Mount> {
    let kind = prop_oneof![
        ".{0,8}".prop_map(|source| MountKind::Bind { source }),
        any::<(u64, u32)>().prop_map(|(size, mode)| MountKind::Tmpfs { size, mode }),
    ];
    (".{0,8}", any::<bool>(), kind).prop_map(|(target, read_only, kind)| Mount { target, read_only, kind })
}

fn container() -> impl Strategy<Value = ContainerSpec> {
    let texts = || prop::collection::vec(".{0,8}", 0..3);
    let image = (".{1,8}", any::<[u8; 32]>())
        .prop_map(|(reference, digest)| PinnedImage { reference, digest: Digest::from_bytes(digest) });
    let words = (".{0,8}", ".{0,8}", ".{0,8}", ".{0,8}");
    (image, texts(), texts(), words, labels(), prop::collection::vec(mount(), 0..3), any::<bool>(), wait())
        .prop_map(
            |(
                image,
                args,
                env,
                (workdir, user, hostname, stop_signal),
                labels,
                mounts,
                read_only,
                stop_grace,
            )| {
                ContainerSpec {
                    image,
                    args,
                    env,
                    workdir,
                    user,
                    hostname,
                    labels,
                    mounts,
                    read_only,
                    stop_grace,
                    stop_signal,
                }
            },
        )
}

fn restart() -> impl Strategy<Value = RestartPolicy> {
    let condition = prop::sample::select(vec![
        RestartCondition::None,
        RestartCondition::OnFailure,
        RestartCondition::Any,
    ]);
    (condition, wait(), any::<u64>(), wait()).prop_map(|(condition, delay, max_attempts, window)| {
        RestartPolicy { condition, delay, max_attempts, window }
    })
}

fn placement() -> impl Strategy<Value = Placement> {
    let constraint =
        prop::sample::select(vec!["node.role==manager", "node.labels.zone!=a", "node.ip==10.0.0.0/8"]);
    (prop::collection::vec(constraint, 0..3), any::<u64>()).prop_map(|(texts, max_replicas_per_node)| {
        Placement {
            constraints: texts.into_iter().map(|text| text.parse().unwrap()).collect(),
            max_replicas_per_node,
        }
    })
}

fn service_spec() -> impl Strategy<Value = ServiceSpec> {
    let mode = prop_oneof![
        Just(ServiceMode::Global),
        any::<u64>().prop_map(|replicas| ServiceMode::Replicated { replicas })
    ];
    let network = prop::sample::select(vec![NetworkMode::None, NetworkMode::Host]);
    let task = (container(), resources(), limits(), restart(), placement(), network, any::<u64>()).prop_map(
        |(container, reservations, limits, restart, placement, network, force_update)| TaskSpec {
            container,
            reservations,
            limits,
            restart,
            placement,
            network,
            force_update,
        },
    );
    ("[a-z]{1,9}", labels(), mode, task, any::<u64>()).prop_map(|(name, labels, mode, task, parallelism)| {
        ServiceSpec { name: name.parse().unwrap(), labels, mode, task, update: UpdateConfig { parallelism } }
    })
}

fn update() -> impl Strategy<Value = UpdateProgress> {
    let state = prop::sample::select(vec![UpdateState::Updating, UpdateState::Completed]);
    (state, time(), prop::option::of(time()), ".{0,9}").prop_map(
        |(state, started_at, completed_at, message)| UpdateProgress {
            state,
            started_at,
            completed_at,
            message,
        },
    )
}

fn service() -> impl Strategy<Value = Service> {
    let numbers = any::<(u128, u64, u64)>();
    (numbers, time(), time(), service_spec(), prop::option::of(service_spec()), prop::option::of(update()))
        .prop_map(|((id, version, spec_version), created_at, updated_at, spec, previous, update)| Service {
            id: ServiceId::from_bits(id),
            version: Version::new(version),
            spec_version: Version::new(spec_version),
            created_at,
            updated_at,
            spec,
            previous_spec: previous.map(Box::new),
            update,
        })
}

fn platform() -> impl Strategy<Value = Platform> {
    (".{0,5}", ".{0,5}").prop_map(|(os, architecture)| Platform { os, architecture })
}

fn node() -> impl Strategy<Value = Node> {
    let spec = (
        prop::sample::select(vec![Role::Worker, Role::Manager]),
        prop::sample::select(vec![Availability::Active, Availability::Pause, Availability::Drain]),
        labels(),
    )
        .prop_map(|(role, availability, labels)| NodeSpec { role, availability, labels });
    let description = (".{0,9}", platform(), resources(), ".{0,5}", labels()).prop_map(
        |(hostname, platform, resources, engine_version, labels)| NodeDescription {
            hostname,
            platform,
            resources,
            engine_version,
            labels,
        },
    );
    let states = vec![NodeState::Unknown, NodeState::Ready, NodeState::Down];
    let status = (prop::sample::select(states), time(), ".{0,9}", ".{0,9}")
        .prop_map(|(state, since, message, address)| NodeStatus { state, since, message, address });
    let member = (any::<u64>(), ".{0,9}").prop_map(|(raft_id, address)| ManagerMember { raft_id, address });
    (any::<(u128, u64)>(), time(), spec, description, status, prop::option::of(member)).prop_map(
        |((id, version), created_at, spec, description, status, manager)| Node {
            id: NodeId::from_bits(id),
            version: Version::new(version),
            created_at,
            spec,
            description,
            status,
            manager,
        },
    )
}

fn task() -> impl Strategy<Value = Task> {
    let slot = prop_oneof![
        any::<u64>().prop_map(Slot::Number),
        any::<u128>().prop_map(|bits| Slot::Node(NodeId::from_bits(bits)))
    ];
    let exit = prop_oneof![
        any::<i32>().prop_map(Exit::Code),
        any::<i32>().prop_map(Exit::Signal),
        Just(Exit::OutOfMemory),
        Just(Exit::Unknown)
    ];
    let states = prop::sample::select(TaskState::ALL.to_vec());
    let status = (states, time(), ".{0,9}", ".{0,9}", prop::option::of(exit), any::<(u32, u32)>()).prop_map(
        |(state, since, message, error, exit, (pid, local_restarts))| TaskStatus {
            state,
            since,
            message,
            error,
            exit,
            pid,
            local_restarts,
        },
    );
    let desired = prop::sample::select(vec![
        DesiredState::Ready,
        DesiredState::Running,
        DesiredState::Shutdown,
        DesiredState::Remove,
    ]);
    let node = prop::option::of(any::<u128>().prop_map(NodeId::from_bits));
    (any::<(u128, u64, u128, u64)>(), time(), slot, node, desired, prop::option::of(time()), status).prop_map(
        |((id, version, service, spec_version), created_at, slot, node, desired, start_after, status)| Task {
            id: TaskId::from_bits(id),
            version: Version::new(version),
            created_at,
            service: ServiceId::from_bits(service),
            spec_version: Version::new(spec_version),
            slot,
            node,
            desired,
            start_after,
            status,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn services_survive_the_way(service in service()) {
        prop_assert_eq!(Service::try_from(v1::Service::from(&service)).unwrap(), service);
    }

    #[test]
    fn nodes_survive_the_way(node in node()) {
        prop_assert_eq!(Node::try_from(v1::Node::from(&node)).unwrap(), node);
    }

    #[test]
    fn tasks_survive_the_way(task in task()) {
        prop_assert_eq!(Task::try_from(v1::Task::from(&task)).unwrap(), task);
    }

    #[test]
    fn images_survive_the_way(
        name in ".{0,9}", numbers in any::<(u64, u64, u64)>(), digest in any::<[u8; 32]>(), platform in platform(),
    ) {
        let entry = ImageEntry {
            name,
            version: Version::new(numbers.0),
            digest: Digest::from_bytes(digest),
            size: numbers.1,
            platform,
            created_at: Timestamp::from_nanos(numbers.2),
        };
        prop_assert_eq!(ImageEntry::try_from(v1::ImageEntry::from(&entry)).unwrap(), entry);
    }

    #[test]
    fn a_draft_becomes_what_was_sent(spec in service_spec(), digest in any::<[u8; 32]>()) {
        let mut message = v1::ServiceSpec::from(&spec);
        message.name.clear();
        image_of(&mut message).digest.clear();
        let draft = service::draft(message).unwrap();
        prop_assert_eq!(draft.name(), None);
        prop_assert_eq!(draft.digest(), None);
        prop_assert_eq!(draft.image_reference(), &spec.task.container.image.reference);
        let mut expected = spec;
        expected.task.container.image.digest = Digest::from_bytes(digest);
        let pinned = draft.with_name(expected.name.clone()).pin(Digest::from_bytes(digest)).unwrap();
        prop_assert_eq!(pinned, expected);
    }
}

fn image_of(spec: &mut v1::ServiceSpec) -> &mut v1::PinnedImage {
    spec.task.as_mut().unwrap().container.as_mut().unwrap().image.as_mut().unwrap()
}

#[test]
fn the_cluster_survives_the_way() {
    let cluster = Cluster {
        id: ClusterId::from_bits(7),
        version: Version::new(2),
        created_at: Timestamp::from_secs(3),
        feature_level: 1,
        root_certificate: "PEM".to_owned(),
        root_key: Secret::new(vec![1]),
        worker_token: Secret::new(vec![2; 16]),
        manager_token: Secret::new(vec![3; 16]),
        ticket_key: Secret::new(vec![4]),
        next_raft_id: 5,
        spec: ClusterSpec::default(),
    };
    assert_eq!(Cluster::try_from(v1::StoredCluster::from(&cluster)).unwrap(), cluster);
}

fn smallest_request() -> v1::ServiceSpec {
    let image = v1::PinnedImage { reference: "web".to_owned(), digest: String::new() };
    let container = v1::ContainerSpec { image: Some(image), ..Default::default() };
    v1::ServiceSpec {
        mode: Some(v1::service_spec::Mode::Global(v1::Global {})),
        task: Some(v1::TaskSpec { container: Some(container), ..Default::default() }),
        ..Default::default()
    }
}

#[test]
fn what_is_left_out_takes_the_defaults() {
    let draft = service::draft(smallest_request()).unwrap();
    let spec = draft.with_name("web".parse().unwrap()).pin(Digest::from_bytes([1; 32])).unwrap();
    assert_eq!(spec.task.restart, RestartPolicy::default());
    assert_eq!(spec.task.restart.delay, DEFAULT_DELAY);
    assert_eq!(spec.task.container.stop_grace, DEFAULT_STOP_GRACE);
    assert_eq!(spec.update, UpdateConfig::default());
    assert_eq!(spec.task.placement, Placement::default());
}

#[test]
fn refusals_name_field_and_value() {
    let refusal = |change: fn(&mut v1::ServiceSpec)| {
        let mut message = smallest_request();
        change(&mut message);
        service::draft(message).unwrap_err().to_string()
    };
    assert_eq!(refusal(|spec| spec.mode = None), "mode: missing: it must be given");
    assert_eq!(refusal(|spec| image_of(spec).reference.clear()), "image: missing: it must be given");
    assert!(
        refusal(|spec| spec.name = "-x".into()).starts_with("name: invalid value \"-x\": a service name has")
    );
    assert!(
        refusal(|spec| image_of(spec).digest = "md5:0".into())
            .starts_with("image digest: invalid value \"md5:0\"")
    );
    let network = refusal(|spec| spec.task.as_mut().unwrap().network = 9);
    assert!(network.starts_with("network: invalid value \"9\": unknown to this version"), "{network}");
    let constraint = refusal(|spec| {
        spec.task.as_mut().unwrap().placement =
            Some(v1::Placement { constraints: vec!["x".into()], max_replicas_per_node: 0 });
    });
    assert_eq!(constraint, "constraint: invalid value \"x\": use key==value or key!=value");
}

#[test]
fn an_unnamed_draft_cannot_be_pinned() {
    let error = service::draft(smallest_request()).unwrap().pin(Digest::from_bytes([0; 32])).unwrap_err();
    assert_eq!(error.field(), "name");
}

#[test]
fn unknown_numbers_of_states_are_refused() {
    assert!(task::task_state(513).is_err());
    assert!(task::task_state(u32::MAX).is_err());
    assert!(task::desired_state(0).is_err());
    assert!(node::role(0).is_err());
    assert!(node::availability(7).is_err());
}
